"""Step time of CreditGRPOTrainer over stock TRL on the same work, side by side in one run.

    python benchmarks/cost/grpo_step.py [--steps 12] [--rounds 5] [--hidden 96] [--layers 3] [--credit seq_norm]

Both trainers train the same model on the same prompts with the same seed, so they generate the same tokens; rounds
alternate which goes first, and the ratio of each pair is taken before the median, so a machine that slows down
half-way slows both.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent.parent.parent),
    str(Path(__file__).resolve().parent.parent.parent / "tests"),
]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tiny_grpo import letters, options, prompts
from transformers import PrinterCallback
from trl import GRPOTrainer

from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

MATCHING = {"seq_norm": ("grpo", "group"), "uniform": ("dapo", "group"), "dr_grpo": ("dr_grpo", "none")}


def step_seconds(ours: bool, given) -> tuple[float, float]:
    """Mean seconds of a step (generation, scoring, loss and update): by the clock, and of this process's CPU time, which
    other work on the machine disturbs less."""
    loss_type, scale = MATCHING[given.credit]
    cls, extra = (CreditGRPOTrainer, {"credit": given.credit}) if ours else (GRPOTrainer, {})
    with tempfile.TemporaryDirectory() as folder:
        trainer = cls(
            model=tiny_model(
                hidden_size=given.hidden, intermediate_size=2 * given.hidden, num_hidden_layers=given.layers
            ),
            reward_funcs=letters,
            args=options(
                folder, given.batch, given.length, given.steps, loss_type=loss_type, scale_rewards=scale, bf16=False
            ),
            train_dataset=prompts(),
            processing_class=tiny_tokenizer(),
            **extra,
        )
        trainer.remove_callback(PrinterCallback)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        total = ((time.perf_counter() - wall) / given.steps, (time.process_time() - cpu) / given.steps)
    gc.collect()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 12), ("rounds", 5), ("hidden", 96), ("layers", 3), ("batch", 128), ("length", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--credit", choices=MATCHING, default="seq_norm")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    step_seconds(True, argparse.Namespace(**{**vars(given), "steps": 2}))  # warm caches
    ratios: dict[str, list[float]] = {"clock": [], "CPU time": []}
    for round_ in range(given.rounds):
        order = (False, True) if round_ % 2 else (True, False)
        seconds = {ours: step_seconds(ours, given) for ours in order}
        for i, kind in enumerate(ratios):
            ratios[kind].append(seconds[True][i] / seconds[False][i])
        print(
            f"round {round_ + 1}: TRL {seconds[False][0]:.4f} s, credit={given.credit} {seconds[True][0]:.4f} s a step; "
            f"ratio {ratios['clock'][-1]:.4f} by the clock, {ratios['CPU time'][-1]:.4f} of CPU time",
            flush=True,
        )
    for kind, values in ratios.items():
        print(f"{kind}: median ratio {statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
