"""Reading a user's files: the one reader of tables (JSON lines, JSON, CSV, Parquet) and of plain text, with messages
that name the file, the line and the column.

Lines end at a line feed, a carriage return or both, and at nothing else: U+2028 and U+0085 are characters of a text.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from userio.read_json import json_rows, loads

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
TEXT = ".txt"
Raw = list[tuple[str, dict[str, Any]]]  # (place, row); the place ("data.jsonl, line 3") is for messages
_PACKED = (".zst", ".zip", ".bz2", ".xz", ".7z", ".tar")
_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_LONGEST_CELL = 2**31 - 1


def read_rows(path: str | Path, setting: str, limit: int | None = None) -> Raw:
    """(place, row) pairs of a table; the place is what an error message names, as in "data.jsonl, line 3".

    Args:
        path: .jsonl, .json (a list of objects, or one object), .csv or .parquet, in any case; .gz behind it is undone.
        setting: what the path was given as, for messages.
        limit: at most so many rows; None: all.

    Raises:
        ValueError: no such file (with the nearest name), an unknown kind, no rows, a row that is no object, text that
            is not UTF-8, half a character, a limit below 1.
    """
    file = existing(path, setting)
    if limit is not None and limit < 1:
        raise ValueError(f"{setting}={path}: a limit of {limit} rows leaves none; give at least 1, or null for all.")
    kind = kind_of(file)
    if kind not in SUFFIXES:
        hint = " Unpack it first." if kind in _PACKED else ""
        raise ValueError(f"{setting}={path}: the kinds {', '.join(SUFFIXES)} can be read, not {kind or 'this'}.{hint}")
    reader = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}[kind]
    rows = list(islice(reader(file), limit))
    if not rows:
        raise ValueError(f"{setting}={path} has no rows.")
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: a row must be an object with named columns, got {row!r:.100}.")
        for name, cell in row.items():
            if (half := _half_character(cell)) is not None:
                raise ValueError(
                    f"{place}, column {name!r}: {half!a} is half of a character (a lone surrogate) and cannot be encoded "
                    "as text; mend it in the file."
                )
    return rows


def read_lines(path: str | Path, setting: str) -> list[tuple[str, str]]:
    """(place, line) pairs of a text file, without line ends.

    Raises:
        ValueError: no such file, or text that is not UTF-8.
    """
    file = existing(path, setting)
    with _text(file) as lines:
        return [(f"{file}, line {number}", line.rstrip("\n")) for number, line in enumerate(_sound(lines, file), 1)]


def existing(path: str | Path, setting: str) -> Path:
    """The file.

    Raises:
        ValueError: there is none, or it is a folder; names the nearest file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        there = [child.name for child in file.parent.iterdir() if child.is_file()] if file.parent.is_dir() else []
        where = f"{file} is a folder" if file.is_dir() else f"no file {file} (looked in {Path.cwd()})"
        raise ValueError(f"{setting}: {where}.{nearest(file.name, there)}")
    return file


def kind_of(path: str | Path) -> str:
    """The suffix that says what a file is, in lower case: ".jsonl" of data.JSONL and of data.jsonl.gz."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return "".join((suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:])


def nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def _text(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """The file as UTF-8 text, packed by gzip or not, without a byte-order mark."""
    try:
        with (gzip.open if file.suffix.lower() == ".gz" else open)(file, "rb") as raw:
            start = raw.read(4)
            for mark, name in _MARKS.items():
                if start.startswith(mark):
                    raise ValueError(
                        f"{file} is {name} text, not UTF-8: iconv -f {name} -t UTF-8 {file} > {file.stem}.utf8{file.suffix}"
                    )
            raw.seek(0)
            yield TextIOWrapper(raw, encoding="utf-8-sig", newline=newline)  # type: ignore[arg-type]
    except UnicodeDecodeError:
        raise ValueError(_not_utf8(file)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: {error}.") from None


def _not_utf8(file: Path) -> str:
    with (gzip.open if file.suffix.lower() == ".gz" else open)(file, "rb") as raw:
        data = raw.read()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        line = before.count(b"\n") + 1
        byte, near = data[error.start], data[max(0, error.start - 20) : error.start].decode("utf-8", "replace")
        return (
            f"{file}, line {line}: not UTF-8 text (the byte 0x{byte:02x} behind {near!r}). If it is Latin-1: "
            f"iconv -f LATIN1 -t UTF-8 {file} > {file.stem}.utf8{file.suffix}"
        )
    return f"{file} is not UTF-8 text."


def _sound(lines: Iterable[str], file: Path) -> Iterator[str]:
    """The lines.

    Raises:
        ValueError: one holds a NUL character.
    """
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise ValueError(f"{file}, line {number}: a NUL character; the file is damaged, or UTF-16 without a mark.")
        yield line


def _json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    with _text(file) as lines:
        for number, line in enumerate(_sound(lines, file), start=1):
            line = line.strip().lstrip("\ufeff")  # a mark inside: files put together
            if line:
                place = f"{file}, line {number}"
                yield place, loads(line, place)


def _json(file: Path) -> Iterator[tuple[str, Any]]:
    with _text(file) as lines:
        text = "".join(_sound(lines, file))
    yield from json_rows(text, file)


def _csv(file: Path) -> Iterator[tuple[str, Any]]:
    before = csv.field_size_limit(_LONGEST_CELL)  # Python's own limit, 131,072 characters, is no limit of the data
    start = 1
    try:
        with _text(file, newline="") as lines:
            reader = csv.reader(_sound(lines, file), strict=True)
            header: list[str] | None = None
            for cells in reader:
                place, start = f"{file}, line {start}", reader.line_num + 1
                if not cells:
                    continue
                if header is None:
                    header = _header(cells, place)
                elif len(cells) != len(header):
                    raise ValueError(
                        f"{place}: not as many cells as the header has columns ({len(cells)}, and {len(header)}: "
                        f"{', '.join(header)})."
                    )
                else:
                    yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        reason = "a quoted cell is never closed" if "unexpected end" in str(error) else str(error)
        raise ValueError(
            f"{file}, line {start}: {reason}. A quotation mark inside of a quoted cell is written twice."
        ) from None
    finally:
        csv.field_size_limit(before)


def _header(names: list[str], place: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place}: the header names {name!r} {names.count(name)} times; rename all but one.")
    return names


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow  # comes with `datasets`; slow to import, so only where it is needed
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            table = opened.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a Parquet file ({error}).") from None
    _header(table.column_names, str(file))
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(table.to_pylist(), start=1))


def _half_character(cell: Any) -> str | None:
    """The first lone surrogate in a cell's texts, keys included; None if there is none."""
    if isinstance(cell, str):
        if cell.isascii():
            return None
        return next((mark for mark in cell if "\ud800" <= mark <= "\udfff"), None)
    if isinstance(cell, dict):
        cell = [*cell, *cell.values()]
    if isinstance(cell, (list, tuple)):
        return next((half for inner in cell if (half := _half_character(inner)) is not None), None)
    return None
