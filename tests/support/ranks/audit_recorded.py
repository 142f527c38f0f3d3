"""Run under torchrun by tests/trainers/audit/given/test_recorded.py: an audit of recorded completions; rank 0 writes the record."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"

import torch

from support.exact.audits import deal_out, sampling_audit


def main(folder: Path, names: str, file: str) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    options = {"gradient_accumulation_steps": 1}  # one process has two
    engine = sampling_audit(names.split(","), folder, batches=2, share_batches=0, warmup=1, options=options)
    collected = deal_out(engine, Path(file)).collect()
    if int(os.environ["RANK"]) == 0:
        collected.save(folder / "collected.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
