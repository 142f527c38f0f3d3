"""Small SFT runs for the tests: rows of letters, a tiny decoder, one function that trains and hands back what happened."""

from __future__ import annotations

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from support.tiny import tiny_model, tiny_tokenizer
from trainers.sft import CreditSFTTrainer


def rows(count: int = 32, seed: int = 0) -> list[dict]:
    generator = torch.Generator().manual_seed(seed)

    def letters(least: int, most: int) -> str:
        length = int(torch.randint(least, most + 1, (1,), generator=generator))
        return "".join("abcdefgh"[i] for i in torch.randint(8, (length,), generator=generator).tolist())

    return [{"prompt": letters(1, 4), "completion": letters(1, 20) + "<eos>"} for _ in range(count)]


class Losses(TrainerCallback):
    def __init__(self):
        self.losses, self.logs = [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(logs["loss"])
            self.logs.append(dict(logs))


def train(folder, weight=None, data=None, model=None, trainer_class=None, **config):
    """(weights of the model after training, losses, trainer). weight=None: TRL's own trainer."""
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "max_length": 48,
        "seed": 0,
        "loss_type": "nll",
    }
    seen = Losses()
    options = {
        "model": tiny_model() if model is None else model,
        "args": SFTConfig(**(settings | config)),
        "train_dataset": Dataset.from_list(data or rows()),
        "processing_class": tiny_tokenizer(),
        "callbacks": [seen],
    }
    trainer = SFTTrainer(**options) if weight is None else (trainer_class or CreditSFTTrainer)(**options, weight=weight)
    trainer.seen = seen
    trainer.train()
    parameters = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    return parameters, seen.losses, trainer


def completions(data) -> list[int]:
    """Label tokens of each row: its letters and the end token."""
    return [len(row["completion"].replace("<eos>", "")) + 1 for row in data]
