"""A task's rows as the texts that likelihood training learns from and is judged by."""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig

from configs.compose import ConfigError
from tasks.base import Row, Task
from trainers.command.build import template_of

# Demonstrations for evaluation come from another stream than those for training.
_EVALUATION_SEED = 1_000_003


def texts_of(task: Task, config: DictConfig) -> tuple[list[Row], list[Row]]:
    """Training and held-out texts as TRL's prompt-completion rows. No pair of the one stands in the other.

    Raises:
        ConfigError: the task has no texts to learn from.
    """
    if task.demonstrations is None:
        raise ConfigError(
            f"task {task.name} has no texts to learn from. Choose task=corpus (task.path=texts.txt), task=chain, or a "
            "table with task.completion_column=..."
        )
    template = template_of(config)
    evaluation = [as_pair(row, template) for row in task.evaluation if "completion" in row]
    wanted = config.get("eval_examples") or 0
    if not evaluation and wanted:
        evaluation = [as_pair(row, template) for row in task.demonstrations(wanted, config.seed + _EVALUATION_SEED)]
    held_out = {json.dumps(row) for row in evaluation}
    train = [as_pair(row, template) for row in task.demonstrations(config.examples or len(task.train), config.seed)]
    kept = [row for row in train if json.dumps(row) not in held_out]
    if len(kept) < len(train) / 2:
        # A small table: hold out a share of what there is.
        distinct = list({json.dumps(row): row for row in train}.values())
        held = distinct[: max(1, min(wanted, len(distinct) // 10))]
        evaluation, kept = held, [row for row in train if row not in held]
    if not kept:
        raise ConfigError(f"task {task.name}: no texts are left to train on once {len(evaluation)} are held out.")
    return kept, evaluation


def as_pair(row: Row, template: dict[str, Any]) -> Row:
    """The row as TRL wants it: a chat prompt is answered by a message, and brings the arguments of its template."""
    if isinstance(row["prompt"], str):
        return {"prompt": row["prompt"], "completion": row["completion"]}
    answer = [{"role": "assistant", "content": row["completion"]}]
    given = {"chat_template_kwargs": template} if template else {}
    return {"prompt": row["prompt"], "completion": answer, **given}
