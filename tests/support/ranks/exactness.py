"""Run under torchrun by tests/support/exact/exactness.py: gradients of strategies on this many ranks, one file for each, by rank 0.

An error while a strategy is made is the same on all ranks and costs that strategy only. One in training may leave the ranks at
different places: it is written down, and ends the launch."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from configs.compose import compose_strategy
from support.exact.exactness import gradients, reference, teacher


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    reference()
    teacher()
    gc.freeze()  # every training collects garbage first, which takes longer than the training where it walks the libraries
    first = int(os.environ["RANK"]) == 0
    for job in torch.load(folder / "jobs.pt"):
        error = folder / f"{job['number']}.error"
        (folder / f"{job['number']}.began").touch()
        try:
            strategy = compose_strategy(job["overrides"], job["config_dirs"])
        except Exception as raised:
            error.write_text(f"{type(raised).__name__}: {raised}", encoding="utf-8")
            continue
        try:
            found = {}
            for batch, accumulation in job["batches"].items():
                result = gradients(batch, strategy, job["given"], accumulation)
                found[batch] = result.gradients, result.pushes
        except Exception as raised:
            # The rank that waits for the other one has only the broken connection to tell.
            if not error.exists() and "Connection closed by peer" not in str(raised):
                error.write_text(f"{type(raised).__name__}: {raised}", encoding="utf-8")
            raise
        if first:
            torch.save(found, folder / f"{job['number']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
