"""Run under torchrun by tests/trainers/refill/test_refill_ranks.py: what a refill makes of a batch on this many ranks, and runs that go
on from their checkpoints."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from support.exact.refilled import CASES, batch_of, lengths
from support.resumed import PROMPTS, goes_on_from_everywhere, grpo


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found = {name: batch_of(folder / name, name) for name in CASES}
    if int(os.environ["RANK"]) == 0:
        torch.save(found, folder / "found.pt")
    options = dict(per_device_train_batch_size=6, ddp_find_unused_parameters=False, max_steps=5)
    make = grpo(funcs=lengths, rows=len(PROMPTS), refill=2, **options)
    whole = goes_on_from_everywhere(make, folder / "resume", 5, cuts=[3])
    refilled = [row["sampling/refilled"] for row in whole.logs if "sampling/refilled" in row]
    assert sum(refilled[3:]) > 0, "nothing was refilled, so nothing was tested"
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
