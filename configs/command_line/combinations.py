"""Several strategies in one command: `credit=a,b credit/weight=seq_mean,constant` stands for four."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from userio.words import word_of


def is_about_credit(word: str) -> bool:
    """Whether it says something of the strategy."""
    return word_of(word).name == "credit" or word_of(word).name.startswith(("credit/", "credit."))


def combinations_of(words: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(what it is called, its words) of each combination of comma-separated values."""
    choices = []
    for word in words:
        key, value = word_of(word).key, word_of(word).text
        values = [value] if value.startswith(("[", "{", '"', "'")) else value.split(",")
        choices.append([f"{key}={each}" for each in values])
    return [
        (" ".join(part.removeprefix("credit=").removeprefix("credit/") for part in combination), combination)
        for combination in itertools.product(*choices)
    ]
