"""A task's rows as the texts that likelihood training learns from and is judged by."""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig

from configs.compose import ConfigError
from tasks.base import Row, Task
from tasks.conversations import is_one_answer
from trainers.command.build import template_of

# Demonstrations for evaluation come from another stream than those for training.
_EVALUATION_SEED = 1_000_003


def texts_of(task: Task, config: DictConfig, whole: bool = False) -> tuple[list[Row], list[Row]]:
    """Training and held-out texts as TRL's prompt-completion rows. No pair of the one stands in the other.

    Args:
        whole: conversations in which the assistant speaks more than once stay whole, TRL's rows of `messages`; else they
            are a prompt and the last answer.

    Raises:
        ConfigError: the task has no texts to learn from.
    """
    if task.demonstrations is None:
        raise ConfigError(
            f"task {task.name} has no texts to learn from. Choose task=corpus (task.path=texts.txt), task=chain, or a "
            "table with whole conversations (task.messages_column=...) or completions (task.completion_column=...)."
        )
    if task.texts is not None:
        return _of_table(task, config, whole)
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


def _of_table(task: Task, config: DictConfig, whole: bool) -> tuple[list[Row], list[Row]]:
    """The texts of a table, which has held some out itself."""
    assert task.texts is not None and task.demonstrations is not None
    learnt, held_out = task.texts
    template = template_of(config)
    several = whole and any("messages" in row and not is_one_answer(row["messages"]) for row in (*learnt, *held_out))
    make = as_conversation if several else as_pair
    chosen = task.demonstrations(config.examples or len(learnt), config.seed)
    return [make(row, template) for row in chosen], [make(row, template) for row in held_out]


def as_conversation(row: Row, template: dict[str, Any]) -> Row:
    """The row as TRL wants a whole conversation."""
    given = {"chat_template_kwargs": template} if template else {}
    return {"messages": row["messages"], **given}


def as_pair(row: Row, template: dict[str, Any]) -> Row:
    """The row as TRL wants it: a chat prompt is answered by a message, and brings the arguments of its template."""
    if isinstance(row["prompt"], str):
        return {"prompt": row["prompt"], "completion": row["completion"]}
    answer = row["messages"][-1:] if "messages" in row else [{"role": "assistant", "content": row["completion"]}]
    given = {"chat_template_kwargs": template} if template else {}
    return {"prompt": row["prompt"], "completion": answer, **given}
