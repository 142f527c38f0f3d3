"""The files of a run's folder: their names, how one is written whole or not at all, and how metrics are read back.

Of the standard library only: it is all that compare/ and the sweep need to know of trainers/.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
SUMMARY = "summary.json"  # written last: the run is whole
CHECKPOINTS = "checkpoints"
MODEL = "model"
CURVES = "curves.png"
RECORDS = "records"
WRITTEN = "written.jsonl"
OUTPUT = "log.txt"
STARTED = "started.jsonl"


@contextmanager
def whole(path: Path, mark: str = "half") -> Iterator[Path]:
    """A place beside `path`, for a file or a folder, that takes its name at the end, by one rename: a process that is
    killed leaves the whole of it or nothing. What stands there goes; a link at either place is replaced, not followed.

    mark: of the place beside; two processes that write the same file at once need two.
    """
    half = path.with_name(f".{path.name}.{mark}")
    _remove(half)
    try:
        yield half
        os.replace(half, path)
    except BaseException:
        _remove(half)
        raise


def write_text(path: Path, text: str, mark: str = "half") -> None:
    """Writes a file whole or not at all, also if the machine dies. A text that is no UTF-8 raises UnicodeEncodeError."""
    write_bytes(path, text.encode("utf-8"), mark)


def write_bytes(path: Path, content: bytes, mark: str = "half") -> None:
    """As `write_text`."""
    with whole(path, mark) as half, half.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a name may outlive its contents


def write_json(path: Path, value: Any) -> None:
    """As `write_text`; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line, as `write_text`."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; none where nothing was ever logged."""
    return list(metric_rows(path.read_text(encoding="utf-8"))) if path.exists() else []


def metric_rows(text: str) -> Iterator[dict[str, Any]]:
    """The objects in the lines of a text; a line that holds none, such as a last one cut off by a kill, is left out."""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
