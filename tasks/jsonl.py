"""A task from a file of your own: JSON lines, JSON, CSV or Parquet, with a prompt column and what the rewards need.

    accelerate launch train_grpo.py model=hf model.name=... task=jsonl task.path=questions.jsonl

Judged, unless `reward=` says otherwise, by think/answer tags (0.2) and the answer between the answer tags (0.8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.base import Task
from tasks.table import table_task
from userio.read import kind_of, read_rows


def jsonl(
    path: str, eval_path: str | None = None, limit: int | None = None, name: str | None = None, **table: Any
) -> Task:
    """A `Task` from a file.

    Args:
        path: .jsonl, .json (a list of objects), .csv or .parquet, or one of these packed as .gz; relative to the folder
            the command is given in.
        eval_path: evaluation rows with the same columns; None: some of `path` are held out.
        limit: at most so many rows of each file.
        name: of the task; None: the file's name.
        table: columns, prompts, answers and rewards, see `tasks.table.table_task`.

    Raises:
        ValueError: no such file (with the nearest name), a row that cannot be read (with its line), an empty file, and
            whatever `table_task` refuses.
    """
    raw = read_rows(path, "task.path", limit)
    raw_evaluation = read_rows(eval_path, "task.eval_path", limit) if eval_path else None
    return table_task(path, raw, raw_evaluation, name=name or Path(path).name.split(kind_of(path))[0], **table)
