"""Doors with a small transformer: completions until 0.9 of the doors open, credit from spans against the group's mean.

    python benchmarks/doors/spans_decoder.py --strategies spans          # a process of its own per strategy, if you like
    python benchmarks/doors/spans_decoder.py                             # whatever is missing, then table, picture and data

The policy is a decoder with learned absolute positions (width 64, 2 layers) that writes 64 letters out of 4; 16 completions
a step in two groups of 8, one Adam step on each; every strategy at its best learning rate, chosen on seeds that are not
reported (further rates are tried while the best one is at the edge). The loss is the on-policy one, -sum w A log pi,
with A and w from the shipped strategies. All seeds of a rate train side by side as one batched model, each with weights,
key and draws of its own; that, and a loop of its own instead of TRL's, makes ten seeds affordable on one core.

`own` is the oracle: each letter is credited with its own door alone, which takes knowing that doors are independent.
Finished runs are kept in --runs, one file each, and a second call goes on from there.

Shapes: S policies side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from decoder import DOORS, GROUP, ROWS, SMOOTH, TARGET, Decoders, V, by_uniforms, start
from paired import Arm, draw, ratio, write_json

from credit import Strategy
from credit.baseline import group_mean, group_zscore, none
from credit.batch import Rollout
from credit.reduce import group_index
from credit.spread import spans
from credit.weight import constant


def own(span_rewards_BT: Tensor, group_B: Tensor) -> Tensor:
    """What each token earned itself, minus the mean of the other rows of its group at that position."""
    index_B, groups = group_index(group_B)
    sums_PT = span_rewards_BT.new_zeros(groups, span_rewards_BT.shape[1]).index_add_(0, index_B, span_rewards_BT)
    return span_rewards_BT - (sums_PT[index_B] - span_rewards_BT) / (GROUP - 1)


STRATEGIES = {
    "spans": Strategy(constant, none, spans),
    "group_mean": Strategy(constant, group_mean),
    "group_zscore": Strategy(constant, group_zscore),
    "own": Strategy(constant, none, own),
}
RATES = (5e-4, 1e-3, 2e-4)
WIDER = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


@dataclass
class SeedRun:
    """One seed: completions until the mean reward of SMOOTH steps is TARGET (None: never), and every step's reward."""

    seed: int
    completions: int | None
    reward: list[float]


def train(strategy: Strategy, rate: float, seeds: list[int], longest: int) -> list[SeedRun]:
    """A seed that has reached the target leaves the batch."""
    policies, draws, key_ST = start(seeds)
    optimiser = torch.optim.Adam(policies.parameters(), lr=rate, betas=(0.9, 0.99))
    runs = [SeedRun(seed, None, []) for seed in seeds]
    alive = list(range(len(seeds)))
    for step in range(longest):
        letters_SBT = policies.sample(
            by_uniforms(torch.stack([torch.rand(ROWS, DOORS, generator=draws[i]) for i in alive]))
        )
        earned_SBT = (letters_SBT == key_ST[:, None]).float() / DOORS
        for i, reward in zip(alive, earned_SBT.sum(2).mean(1).tolist(), strict=True):
            runs[i].reward.append(reward)
            if step >= SMOOTH and statistics.fmean(runs[i].reward[-SMOOTH:]) >= TARGET:
                runs[i].completions = (step + 1) * ROWS
        if step % 100 == 99:
            print(f"    step {step + 1}, {len(alive)} seeds, reward {earned_SBT.sum(2).mean():.3f}", flush=True)
        rows = [row for row, i in enumerate(alive) if runs[i].completions is None]
        if not rows:
            break
        if len(rows) < len(alive):
            policies.keep(rows, optimiser)
            alive = [alive[row] for row in rows]
            key_ST, letters_SBT, earned_SBT = key_ST[rows], letters_SBT[rows], earned_SBT[rows]
        _update(policies, optimiser, strategy, letters_SBT, earned_SBT)
    return runs


def _update(
    policies: Decoders, optimiser: torch.optim.Optimizer, strategy: Strategy, letters_SBT: Tensor, earned_SBT: Tensor
) -> None:
    signals_SBT = torch.stack([_signal(strategy, earned_BT) for earned_BT in earned_SBT])
    inputs_SBT = torch.cat([torch.full_like(letters_SBT[:, :, :1], V), letters_SBT[:, :, :-1]], 2)
    logps_SBT = policies(inputs_SBT)[1].log_softmax(-1).gather(3, letters_SBT[..., None]).squeeze(3)
    optimiser.zero_grad()
    (-(signals_SBT * logps_SBT).sum()).backward()
    policies.clip(1.0)
    optimiser.step()


def _signal(strategy: Strategy, earned_BT: Tensor) -> Tensor:
    """(B, T) credit times weight."""
    mask_BT, group_B = torch.ones_like(earned_BT, dtype=torch.bool), torch.arange(ROWS) // GROUP
    credit = strategy.score(Rollout(earned_BT.sum(1), group_B, mask_BT, DOORS, span_rewards_BT=earned_BT))
    return credit.advantages_BT * credit.weights_BT


class Shelf:
    """Finished runs, one file each, so that several processes can share the work."""

    def __init__(self, folder: Path, longest: int):
        self.folder, self.longest = folder, longest
        folder.mkdir(parents=True, exist_ok=True)

    def runs(self, name: str, rate: float, seeds: list[int], longest: int | None = None) -> list[SeedRun]:
        """Trains what is missing."""
        longest = longest or self.longest
        files = {seed: self.folder / f"{name}_{rate:g}_{longest}_{seed}.json" for seed in seeds}
        missing = [seed for seed, file in files.items() if not file.is_file()]
        if missing:
            print(f"  {name} at rate {rate:g}, {len(missing)} seeds, at most {longest} steps", flush=True)
            for run in train(STRATEGIES[name], rate, missing, longest):
                text = json.dumps({"completions": run.completions, "reward": [round(r, 4) for r in run.reward]})
                part = files[run.seed].with_suffix(f".{os.getpid()}")
                part.write_text(text)
                part.replace(files[run.seed])
        return [SeedRun(seed, **json.loads(file.read_text())) for seed, file in files.items()]


def tuned(shelf: Shelf, name: str, seeds: list[int], rates: list[float]) -> dict[float, float]:
    """Mean completions by rate, widened while the best rate is the lowest or highest tried.

    A run is given up at 1.2 times the best mean so far, and counts as one that never arrives.
    """
    found: dict[float, float] = {}

    def best() -> float:
        return min(found, key=lambda rate: found[rate])

    def measure(rate: float) -> None:
        longest = min(shelf.longest, int(1.2 * found[best()] / ROWS)) if found else shelf.longest
        runs = shelf.runs(name, rate, seeds, longest)
        found[rate] = statistics.fmean(run.completions or shelf.longest * ROWS for run in runs)

    for rate in rates:
        measure(rate)
    while True:
        low, high = min(found), max(found)
        below, above = [rate for rate in WIDER if rate < low], [rate for rate in WIDER if rate > high]
        if best() == low and below:
            measure(below[-1])
        elif best() == high and above:
            measure(above[0])
        else:
            return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tuning-seeds", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="tried for every strategy")
    parser.add_argument("--rate", nargs="+", default=[], metavar="STRATEGY=RATE", help="taken as it is, not tuned")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--runs", type=Path, default=Path("spans_decoder"), help="folder of finished runs")
    parser.add_argument("--out", type=Path, help="also write OUT.json and OUT.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shelf, tuning_seeds = Shelf(options.runs, options.steps), list(range(1000, 1000 + options.tuning_seeds))
    arms, rates = {}, {}
    for name in options.strategies:
        taken = {name: float(rate) for name, _, rate in (pair.partition("=") for pair in options.rate)}
        rates[name] = {} if name in taken else tuned(shelf, name, tuning_seeds, options.rates)
        best = taken[name] if name in taken else min(rates[name], key=rates[name].get)
        if not options.seeds:  # tune only
            continue
        runs = shelf.runs(name, best, list(range(options.seeds)))
        arms[name] = Arm([run.completions for run in runs], [run.reward for run in runs], options.steps * ROWS)
        tried = ", ".join(f"{rate:g}: {mean:,.0f}" for rate, mean in rates[name].items())
        print(f"{name:<13} rate {best:g} ({tried})  {arms[name].line()}", flush=True)
    table = {}
    for a, b in [("spans", "group_mean"), ("spans", "group_zscore"), ("own", "group_mean"), ("own", "spans")]:
        if a in arms and b in arms:
            table[f"{a} / {b}"] = ratio(arms[a], arms[b])
            print(f"{a} / {b:<13} {table[f'{a} / {b}'].line()}")
    if options.out:
        settings = {"doors": DOORS, "letters": V, "rows": ROWS, "group": GROUP, "target": TARGET, "smooth": SMOOTH}
        write_json(options.out.with_suffix(".json"), arms, table, {"settings": settings, "tuning": rates})
        title = f"doors on a small decoder: reward, mean of {options.seeds} seeds"
        draw(options.out.with_suffix(".png"), arms, title, ROWS, SMOOTH, TARGET)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
