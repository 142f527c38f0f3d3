"""TRL's config of an audit: one generation batch as in training, put through the model in parts, and no step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import GRPOConfig

from configs.compose import ConfigError
from trainers.command.build import build_args


def audit_args(config: Any, trained: GRPOConfig, folder: Path, samples: bool = True) -> GRPOConfig:
    """trained: TRL's config as training would have it. samples: whether completions are to be sampled; else no engine is started.

    Raises:
        ConfigError: the rows of a process cannot be cut into parts of `rows`.
    """
    rows = trained.per_device_train_batch_size * trained.steps_per_generation
    part = config.rows or trained.per_device_train_batch_size
    if rows % part:
        fit = ", ".join(str(size) for size in range(1, rows + 1) if rows % size == 0)
        raise ConfigError(
            f"rows={part}: the {rows} completions of a process cannot be cut into parts of it. Possible: {fit}."
        )
    return build_args(
        config,
        GRPOConfig,
        output_dir=str(folder),
        seed=config.seed,
        reward_weights=trained.reward_weights,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=rows // part,
        steps_per_generation=rows // part,
        generation_batch_size=None,
        num_iterations=1,
        **({} if samples else {"use_vllm": False}),
        max_steps=1,
        gradient_checkpointing=False,  # a graph is gone through more than once
        eval_on_start=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
