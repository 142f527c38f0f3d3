"""A task from a data set on the Hugging Face hub (or a local folder that `datasets` can load).

accelerate launch train_grpo.py model=hf model.name=Qwen/Qwen2.5-0.5B-Instruct task=gsm8k
"""

from __future__ import annotations

from typing import Any

from tasks.base import Task
from tasks.columns import nearest
from tasks.table import table_task
from userio.read import Raw


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
    raw = _rows(dataset, config, split, revision, limit)
    raw_evaluation = _rows(dataset, config, eval_split, revision, limit) if eval_split else None
    return table_task(dataset, raw, raw_evaluation, name=name or dataset.rstrip("/").rpartition("/")[2], **table)


def _rows(dataset: str, config: str | None, split: str, revision: str | None, limit: int | None) -> Raw:
    from datasets import DatasetDict, load_dataset  # slow to import, so only where it is needed
    from datasets.exceptions import DatasetsError

    try:
        loaded = load_dataset(dataset, config, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        told = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        reason = next((line for line in str(told).splitlines() if line.strip()), type(told).__name__)
        raise ValueError(
            f"task.dataset={dataset} cannot be loaded ({reason}). Check the name and task.config; for private data, "
            "`hf auth login`; without a network, download it first or use task=jsonl with a file."
        ) from error
    assert isinstance(loaded, DatasetDict)
    if split not in loaded:
        raise ValueError(f"{dataset} has no split {split!r}, only {', '.join(loaded)}.{nearest(split, loaded)}")
    rows = loaded[split] if limit is None else loaded[split].select(range(min(limit, len(loaded[split]))))
    if not len(rows):
        raise ValueError(f"{dataset}: split {split!r} has no rows.")
    return [(f"{dataset} ({split}), row {number}", dict(row)) for number, row in enumerate(rows, start=1)]
