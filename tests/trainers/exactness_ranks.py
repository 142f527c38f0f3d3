"""Run under torchrun by test_exactness.py: gradients of every strategy on this many ranks, saved by rank 0."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from fixed import gradient, made_rollouts

from trainers.compose import compose_strategy


def main(job: Path) -> None:
    wanted = json.loads(job.read_text())
    torch.set_num_threads(1)
    results = {}
    for overrides in wanted["strategies"]:
        strategy = compose_strategy(overrides, wanted["config_dirs"])
        for seed in wanted["seeds"]:
            for accumulation in wanted["accumulations"]:
                found = gradient(made_rollouts(seed), strategy, accumulation)
                results[f"{' '.join(overrides)}|{seed}|{accumulation}"] = found
    if int(os.environ["RANK"]) == 0:
        torch.save(results, job.with_suffix(".pt"))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
