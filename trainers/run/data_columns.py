"""What a record says of the data set's row behind a completion: its conversation and its other columns, as short JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

LONGEST_VALUE = 2_000  # characters of one column
LONGEST_MESSAGE = 20_000
MOST_COLUMNS = 32
DEEPEST = 12


def prompt_messages(row: Mapping[str, Any]) -> str | None:
    """The prompt as JSON, a list of {"role": ..., "content": ...} with whatever else its messages hold; None where it is
    plain text. Texts beyond `LONGEST_MESSAGE` characters are cut, images and the like become their type's name."""
    prompt = row.get("prompt")
    if not isinstance(prompt, list) or not all(isinstance(message, Mapping) for message in prompt):
        return None
    return json.dumps(plain_messages(prompt), ensure_ascii=False)


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as plain JSON, within the same bounds."""
    return _short([dict(message) for message in messages], LONGEST_MESSAGE)


def other_columns(row: Mapping[str, Any]) -> str:
    """Every column but the prompt, as a JSON object: at most `MOST_COLUMNS` of them, each at most `LONGEST_VALUE` characters;
    longer text ends in an ellipsis, longer lists become such text."""
    names = [name for name in row if name != "prompt" and row[name] is not None][:MOST_COLUMNS]
    return json.dumps({_cut(str(name), 200): _bounded(row[name]) for name in names}, ensure_ascii=False)


def _bounded(value: Any) -> Any:
    value = _short(value, LONGEST_VALUE)
    if isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        return _cut(text, LONGEST_VALUE) if len(text) > LONGEST_VALUE else value
    return value


def _short(value: Any, longest: int, depth: int = 0) -> Any:
    """`value` as plain JSON; what JSON has no form for is named by its type, never printed: it could be gigabytes."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a number of NumPy or torch
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _cut(value, longest)
    if isinstance(value, Decimal | date | time | timedelta):
        return str(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        items = list(value.items())[:longest]
        return {_cut(str(key), longest): _short(each, longest, depth + 1) for key, each in items}
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [_short(each, longest, depth + 1) for each in value[:longest]]
    return f"<{type(value).__name__}>"


def _cut(text: str, longest: int) -> str:
    text = text.encode("utf-8", errors="backslashreplace").decode("utf-8")  # half a surrogate is no Parquet string
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"
