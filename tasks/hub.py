"""A task from a data set on the Hugging Face hub (or a local folder that `datasets` can load).

accelerate launch train_grpo.py model=hf model.name=Qwen/Qwen2.5-0.5B-Instruct task=gsm8k
"""

from __future__ import annotations

from typing import Any

from tasks.base import Task
from tasks.sources import Part, hub_rows
from tasks.table import table_task


def hub(
    dataset: str,
    config: str | None = None,
    split: str = "train",
    eval_split: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    name: str | None = None,
    **table: Any,
) -> Task:
    """A `Task` from a data set.

    Args:
        dataset: hub id ("openai/gsm8k") or folder.
        config: the data set's configuration, where it has several.
        split: of the data set.
        eval_split: the rows held out; None: `eval_share` of the prompts of `split`.
        revision: branch, tag or commit on the hub.
        limit: at most so many rows of each split.
        name: of the task; None: the last part of `dataset`.
        table: columns, prompts, answers and rewards, see `tasks.table.table_task`.

    Raises:
        ValueError: the data set, configuration or split cannot be had, or `table_task` refuses it.
    """
    raw = hub_rows(dataset, "task.dataset", Part(split, config, revision, limit))
    given = hub_rows(dataset, "task.dataset", Part(eval_split, config, revision, limit)) if eval_split else None
    return table_task(dataset, raw, given, name=name or dataset.rstrip("/").rpartition("/")[2], **table)
