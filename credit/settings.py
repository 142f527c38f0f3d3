"""Checks of the settings that a YAML or a command line brings: their types, which Hydra passes on as they were written."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

_MEANING = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a name"}


def check_types(settings: Any, prefix: str = "") -> None:
    """Every field of a dataclass annotated `float`, `int`, `bool` or `str`, with or without `| None`, holds such a value;
    numbers are finite. Fields of other types are not looked at. `prefix`: what the message puts before a field's name.

    Raises:
        ValueError: it does not.
    """
    for entry in fields(settings):
        kind = entry.type if isinstance(entry.type, str) else getattr(entry.type, "__name__", "")
        kind, *rest = [word.strip() for word in kind.split("|")]
        value = getattr(settings, entry.name)
        if kind not in _MEANING or rest not in ([], ["None"]) or (value is None and rest):
            continue
        if not _is(value, kind):
            raise ValueError(f"{prefix}{entry.name} must be {_MEANING[kind]}, got {value!r}.")


def _is(value: Any, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    number = isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
