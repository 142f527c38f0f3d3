"""Rows of JSON: strictly, and with the line each one stands in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")


def loads(text: str, place: str) -> Any:
    """The value of a JSON text, strictly: NaN and infinities are no JSON, and a key stands once in an object.

    Raises:
        ValueError: names the place.
    """
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        here = text[max(0, error.pos - 20) : error.pos + 40].strip()
        raise ValueError(f"{place}: not JSON ({error.msg}, at column {error.colno}: {here!r}).") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: {_reason(error)}.") from None


def json_rows(text: str, file: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of a list of objects, or of one object.

    Raises:
        ValueError: neither of these, with the line.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " If every line is an object of its own, name the file .jsonl." if error.msg == "Extra data" else ""
        raise ValueError(f"{file}, line {error.lineno}: not JSON ({error.msg}).{hint}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: {_reason(error)}.") from None
    if isinstance(data, dict):
        if (inner := _list_inside(data)) is not None:
            raise ValueError(f"{file}: the rows stand under the key {inner!r}; the file must hold the list itself.")
        yield f"{file}, line 1", loads(text, str(file))
    elif not isinstance(data, list):
        raise ValueError(f"{file}: a .json file must hold a list of objects, or one, got {type(data).__name__}.")
    else:
        yield from _elements(text, file)


def _elements(text: str, file: Path) -> Iterator[tuple[str, Any]]:
    """The elements of a list that is known to be JSON."""
    line, counted, number = 1, 0, 0
    at = _next(text, _next(text, 0) + 1)  # behind the bracket
    while text[at] != "]":
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        place = f"{file}, line {line} (row {number})"
        try:
            value, at = _STRICT.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: {_reason(error)}.") from None
        yield place, value
        at = _next(text, at)
        at = _next(text, at + 1) if text[at] == "," else at


def _next(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _list_inside(data: dict) -> str | None:
    """The key under which a file of one object holds its rows; a list of chat messages is none."""
    for key, value in data.items():
        rows = isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
        if rows and len(data) == 1 and "role" not in value[0]:
            return key
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "int_max_str_digits" in str(error) or "integer string conversion" in str(error):
        return "a whole number of more than 4,300 digits; write it as a text"
    return str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; write null where there is no value")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
