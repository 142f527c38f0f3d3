"""Run by test_sft_ranks.py under torchrun: one SGD step per weight, the weights after it saved by rank 0."""

import sys
from pathlib import Path

import torch

from credit import weight as weights
from support.sft_runs import rows, train

WEIGHTS = {"token_mean": weights.token_mean, "seq_mean": weights.seq_mean, "half": weights.length_power}


def early(mask_BT, token_ids_BT):
    return mask_BT * 0.5 ** torch.arange(mask_BT.shape[1]) * (1 + (token_ids_BT == 5)) / mask_BT.shape[0]


def run(folder: Path, ranks: int) -> dict:
    after = {}
    for name, weight in (WEIGHTS | {"own": early}).items():
        for accumulation in (1, 2):
            parameters, losses, _ = train(
                folder / name,
                weight,
                rows(32),
                max_steps=2,
                learning_rate=0.1,
                per_device_train_batch_size=16 // ranks // accumulation,
                gradient_accumulation_steps=accumulation,
                ddp_find_unused_parameters=False,
            )
            after[name, accumulation] = parameters, losses
    return after


if __name__ == "__main__":
    result = run(Path(sys.argv[1]), ranks=2)
    if torch.distributed.get_rank() == 0:
        torch.save(result, sys.argv[2])
    torch.distributed.destroy_process_group()
