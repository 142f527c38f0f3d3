"""Run under torchrun by test_critic_ranks.py: two optimiser steps with each kind of critic; every rank saves what it has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from support.critics import fit_all

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(fit_all(), Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
