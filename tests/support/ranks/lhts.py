"""Run by test_lhts_ranks.py under torchrun: a few steps on given texts, the weights after it saved by rank 0."""

import sys
from pathlib import Path

import torch

from support.tiny import tiny_model
from tests.trainers.test_lhts_training import trainer_for
from trainers.lhts import LHTS

DATA = [{"prompt": "ab", "completion": "cdefgh"[: 1 + i % 5] + "<eos>"} for i in range(16)]


def run(folder: Path, ranks: int):
    model = tiny_model()
    trainer = trainer_for(
        folder, model, LHTS(tau=0.6, horizon=2, self_samples=0.0), DATA, max_steps=3, optim="sgd", max_grad_norm=0.0,
        learning_rate=0.05, per_device_train_batch_size=8 // ranks, ddp_find_unused_parameters=False,
    )  # fmt: skip
    trainer.train()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), trainer.baseline.sum_T


if __name__ == "__main__":
    result = run(Path(sys.argv[1]), ranks=2)
    if torch.distributed.get_rank() == 0:
        torch.save(result, sys.argv[2])
    torch.distributed.destroy_process_group()
