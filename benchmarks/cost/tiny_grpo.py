"""The work that the benchmarks of GRPO's step time share: prompts of two letters, a cheap reward, and quiet options."""

from __future__ import annotations

from datasets import Dataset
from trl import GRPOConfig

from support.tiny import LETTERS


def letters(completions, **columns):
    return [text.count("a") / 10 for text in completions]


def prompts() -> Dataset:
    return Dataset.from_dict({"prompt": [a + b for a in LETTERS for b in LETTERS] * 4})


def options(folder: str, batch: int, length: int, steps: int, **more) -> GRPOConfig:
    """`steps` optimiser steps of `batch` completions of at most `length` tokens; nothing is saved or reported."""
    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        num_generations=8,
        max_completion_length=length,
        max_steps=steps,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **more,
    )
