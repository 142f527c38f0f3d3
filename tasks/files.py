"""Reading tables: JSON lines, JSON, CSV and Parquet, with messages that name the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.columns import nearest

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def read_rows(path: str, setting: str, limit: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) pairs of a file; the place is what an error message names, as in "data.jsonl, line 3".

    Raises:
        ValueError: no such file (with the nearest name), an unknown kind, an empty file, a row that is no object.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        there = [child.name for child in file.parent.iterdir() if child.is_file()] if file.parent.is_dir() else []
        where = f"{file} is a folder" if file.is_dir() else f"no file {file} (looked in {Path.cwd()})"
        raise ValueError(f"{setting}: {where}.{nearest(file.name, there)}")
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{setting}={path}: the kinds {', '.join(SUFFIXES)} can be read, not {file.suffix or 'this'}.")
    reader = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}[file.suffix]
    try:
        rows = list(islice(reader(file), limit))
    except UnicodeDecodeError as error:
        raise ValueError(f"{setting}={path} is not UTF-8 text: {error}.") from None
    if not rows:
        raise ValueError(f"{setting}={path} has no rows.")
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: a row must be an object with named columns, got {row!r:.100}.")
    return rows


def _json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield f"{file}, line {number}", json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{file}, line {number}: not JSON ({error}): {line.strip()[:80]!r}") from None


def _json(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        hint = " If every line is an object of its own, name the file .jsonl." if error.msg == "Extra data" else ""
        raise ValueError(f"{file}, line {error.lineno}: not JSON ({error.msg}).{hint}") from None
    if not isinstance(data, list):
        raise ValueError(f"{file}: a .json file must hold a list of objects, got {type(data).__name__}.")
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(data, start=1))


def _csv(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{file}, line {reader.line_num}: not as many cells as the header has columns.")
            yield f"{file}, line {reader.line_num}", dict(row)


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow  # comes with `datasets`; slow to import, so only where it is needed
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file}: not a Parquet file ({error}).") from None
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(table.to_pylist(), start=1))
