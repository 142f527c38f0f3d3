"""What a measured step of the online audit takes over a step that is not measured, side by side in one run.

    python benchmarks/cost/online_audit.py [--steps 8] [--rounds 3] [--out docs/results/audit/online.json]

Both trainers sample the same tokens and make the same update; rounds alternate which goes first, and the ratio of each pair is
taken before the median. Seconds are CPU time of one thread, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tiny_grpo import letters, options, prompts
from transformers import PrinterCallback

from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.run.tell.online_audit import OnlineAudit

SIZES = {"0.3": (96, 3), "6": (288, 6)}  # millions of parameters: hidden, layers


def seconds_a_step(size: str, measured: bool, given: argparse.Namespace) -> float:
    hidden, layers = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        trainer = CreditGRPOTrainer(
            model=tiny_model(hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers),
            reward_funcs=letters,
            args=options(folder, given.batch, given.length, given.steps, loss_type="dr_grpo", bf16=False, use_cpu=True),
            train_dataset=prompts(),
            processing_class=tiny_tokenizer(),
            callbacks=[OnlineAudit(1)] if measured else [],
            credit="dr_grpo",
        )
        trainer.remove_callback(PrinterCallback)
        started = time.process_time()
        trainer.train()
        return (time.process_time() - started) / given.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 8), ("rounds", 3), ("batch", 32), ("length", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    seconds_a_step("0.3", True, argparse.Namespace(**{**vars(given), "steps": 2}))  # warm caches
    for size in SIZES:
        ratios = []
        for place in range(given.rounds):
            order = (False, True) if place % 2 else (True, False)
            seconds = {measured: seconds_a_step(size, measured, given) for measured in order}
            ratios.append(seconds[True] / seconds[False])
        found[size] = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        print(f"{size} M parameters: a measured step takes {found[size]['ratio']:.3f} of another "
              f"({min(ratios):.3f} to {max(ratios):.3f})", flush=True)  # fmt: skip
    if given.out:
        command = "python benchmarks/cost/online_audit.py --out docs/results/audit/online.json"
        settings = {name: value for name, value in vars(given).items() if name != "out"}
        given.out.write_text(
            json.dumps({"command": command, "settings": settings, "measured_step": found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
