"""A task from data of your own: JSON lines, JSON, CSV or Parquet, with a prompt column and what the rewards need.

    accelerate launch train_grpo.py model=hf model.name=... task=jsonl task.path=questions.jsonl

Judged, unless `reward=` says otherwise, by think/answer tags (0.2) and the answer between the answer tags (0.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tasks.base import Task
from tasks.sources import Part, name_of, rows_at
from tasks.table import table_task


def jsonl(
    path: str | Sequence[str],
    eval_path: str | Sequence[str] | None = None,
    split: str = "train",
    eval_split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    name: str | None = None,
    **table: Any,
) -> Task:
    """A `Task` from a table.

    Args:
        path: .jsonl, .json (a list of objects), .csv or .parquet, or one of these packed as .gz; a folder of such files, or
            one that `datasets` has saved; a pattern ("data/*.jsonl"); a hub id ("openai/gsm8k"); or a list of these.
            Relative to the folder the command is given in.
        eval_path: evaluation rows with the same columns; None: some of `path` are held out.
        split: of a hub id, or of a folder whose files have "train", "test" or "validation" in their names.
        eval_split: the rows of `path` held out, as "test"; None: `eval_share` of the prompts.
        config: of a hub id, where it has several.
        revision: branch, tag or commit on the hub.
        limit: at most so many rows of each file, or of each entry of a list.
        name: of the task; None: the file's name.
        table: columns, prompts, answers and rewards, see `tasks.table.table_task`.

    Raises:
        ValueError: no such file (with the nearest name), a row that cannot be read (with its line), an empty file, and
            whatever `table_task` refuses.
    """
    if eval_path and eval_split:
        raise ValueError("task.eval_path and task.eval_split both name evaluation rows; give one.")
    paths = path if isinstance(path, str) else list(path)
    source = paths if isinstance(paths, str) else ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
    part = Part(split, config, revision, limit, others_used=bool(eval_path or eval_split))
    raw = rows_at(paths, "task.path", part)
    given = None
    if eval_split:
        given = rows_at(paths, "task.path", replace(part, split=eval_split))
    elif eval_path:
        held_out = eval_path if isinstance(eval_path, str) else list(eval_path)
        given = rows_at(held_out, "task.eval_path", replace(part, split=None))
    return table_task(source, raw, given, name=name or name_of(paths), **table)
