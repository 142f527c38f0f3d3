"""`key=value`, the word of which every command line is made. Hydra's grammar stands on it (configs/command_line/)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class Word(NamedTuple):
    """A word cut at its first `=`. value: None where it has none."""

    key: str
    value: str | None

    @property
    def name(self) -> str:
        """The key without the marks of adding and deleting (`+`, `++`, `~`)."""
        return self.key.lstrip("+~")

    @property
    def text(self) -> str:
        """The value; "" where there is none."""
        return self.value or ""


def word_of(text: str) -> Word:
    key, equals, value = text.partition("=")
    return Word(key, value if equals else None)


def is_path(text: str) -> bool:
    """Whether a word with `=` in it is a path all the same: it is there, or has a slash before its `=`."""
    return Path(text).exists() or "/" in word_of(text).key


def check_option(key: str, known: Collection[str], *more: str) -> None:
    """Raises ValueError for a key that a command does not know. more: what else there is to write."""
    if key not in known:
        raise ValueError(f"{key}= is no option; there are: {', '.join([*known, *more])}.")
