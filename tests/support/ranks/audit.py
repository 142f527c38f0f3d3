"""Run under torchrun by tests/trainers/audit/test_ranks.py: an audit of given rollouts on this many ranks; rank 0 writes the record."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from support.exact.audits import fixed_audit


def main(folder: Path, names: str) -> None:
    torch.set_num_threads(1)
    engine = fixed_audit(names.split(","), folder)
    collected = engine.collect()
    if int(os.environ["RANK"]) == 0:
        collected.save(folder / "collected.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
