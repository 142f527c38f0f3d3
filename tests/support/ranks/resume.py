"""Run under torchrun by test_resume_ranks.py: from every checkpoint, on this many ranks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from credit import Strategy, weight
from rewards.guard import guarded
from support.remembering import RunningMean
from support.resumed import goes_on_from_everywhere, grpo, sft


def uneven(completions, **columns):
    """Fails on some rows, so that ranks count different failures."""
    return [float("nan") if "h" in text else len(text) / 10 for text in completions]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    half = dict(per_device_train_batch_size=4, ddp_find_unused_parameters=False)
    cases = {
        "plain": (grpo(**half), None),
        "several steps on a batch": (grpo(**half, steps_per_generation=2, max_steps=10), None),
        "two passes": (grpo(**half, num_iterations=2, gradient_accumulation_steps=2), None),
        "remembers": (grpo(Strategy(weight.constant, RunningMean(), name="mine"), **half, logging_steps=3), [3, 5]),
        "critic": (grpo("value", **half), [3, 5]),
        "texts": (sft(weight="seq_mean", per_device_train_batch_size=1, ddp_find_unused_parameters=False), [2, 4, 5]),
    }
    for name, (make, cuts) in cases.items():
        whole = goes_on_from_everywhere(make, folder / name.replace(" ", "_"), 10 if "several" in name else 8, cuts)
        assert len(whole.logs) >= 2

    guards = []

    def failing(at):
        guards.append(guarded(uneven, max_failed_share=1.0))
        return grpo(**half, funcs=guards[-1])(at)

    goes_on_from_everywhere(failing, folder / "guards", 8, [3])
    assert guards[0].state_dict() == guards[1].state_dict() and guards[0].counts.rows == 8 * 4
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
