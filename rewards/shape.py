"""The shape of the text: its length, its repetitions.

Lengths are counted in completion tokens (TRL hands every reward the token ids), or in words or characters.
"""

from __future__ import annotations

import math
from typing import Any

from rewards.base import TextReward

UNITS = ("tokens", "words", "characters")


class _Measured(TextReward):
    """Scores the length (or the units themselves) of a completion."""

    def __init__(self, unit: str, name: str):
        if unit not in UNITS:
            raise ValueError(f"unit={unit!r} is not one of {', '.join(UNITS)}.")
        self.unit, self.__name__ = unit, name
        self.columns = ("completion_ids",) if unit == "tokens" else ()

    def units(self, text: str, row: dict[str, Any]) -> Any:
        """The tokens, words or characters of the completion."""
        if self.unit == "tokens":
            return row["completion_ids"]
        return text.split() if self.unit == "words" else text


class length_target(_Measured):
    """1 where the length is within `tolerance` of `target`, falling in a straight line to 0 at `tolerance + slope`.

    Args:
        target, tolerance, slope: in units; tolerance at least 0, slope positive.
        unit: "tokens", "words" or "characters".
        name: the name in the logs.

    Range: 0 to 1. Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        target: float,
        *,
        tolerance: float = 0.0,
        slope: float | None = None,
        unit: str = "tokens",
        name: str = "length_target",
    ):
        super().__init__(unit, name)
        slope = max(target, 1.0) if slope is None else slope
        if target < 0 or tolerance < 0 or not slope > 0:
            raise ValueError("length_target needs target >= 0, tolerance >= 0 and slope > 0.")
        self.target, self.tolerance, self.slope = target, tolerance, slope

    def score(self, text: str, /, **row: Any) -> float:
        beyond = abs(len(self.units(text, row)) - self.target) - self.tolerance
        return min(max(1.0 - beyond / self.slope, 0.0), 1.0)


class soft_overlong(_Measured):
    """0 up to `max_length - cache`, falling in a straight line to -1 at `max_length`, and -1 above.

    DAPO, arXiv 2503.14476, equation 13; equals TRL's `get_soft_overlong_punishment`. With cache=0 it is a step.

    Args:
        max_length: length in units from which on the value is -1.
        cache: how many units before it the value begins to fall, 0 <= cache <= max_length.
        unit: "tokens", "words" or "characters".
        name: the name in the logs.

    Range: -1 to 0; an empty text scores 0. Raises:
        ValueError: cache not in that range.
    """

    def __init__(self, max_length: int, cache: int, *, unit: str = "tokens", name: str = "soft_overlong"):
        super().__init__(unit, name)
        if not 0 <= cache <= max_length:
            raise ValueError(f"cache={cache} must lie between 0 and max_length={max_length}.")
        self.max_length, self.cache = max_length, cache

    def score(self, text: str, /, **row: Any) -> float:
        length = len(self.units(text, row))
        free = self.max_length - self.cache
        if length <= free:
            return 0.0
        return (free - length) / self.cache if length <= self.max_length else -1.0


class repetition(_Measured):
    """`max_penalty` times the share of n-grams that repeat an earlier one.

    "Demystifying long chain-of-thought reasoning", arXiv 2502.03373, appendix C.2; equals TRL's
    `get_repetition_penalty_reward` in tokens.

    Args:
        ngram: n, at least 1.
        max_penalty: at most 0.
        unit: "tokens", "words" or "characters".
        name: the name in the logs.

    Range: max_penalty to 0; 0 for texts shorter than n. Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, ngram: int = 3, *, max_penalty: float = -1.0, unit: str = "tokens", name: str = "repetition"):
        super().__init__(unit, name)
        if ngram < 1 or max_penalty > 0:
            raise ValueError(f"repetition needs ngram >= 1 and max_penalty <= 0, got {ngram} and {max_penalty}.")
        self.ngram, self.max_penalty = ngram, max_penalty

    def score(self, text: str, /, **row: Any) -> float:
        units = self.units(text, row)
        total = len(units) - self.ngram + 1
        if total <= 0:
            return 0.0
        different = len(set(zip(*(units[start:] for start in range(self.ngram)), strict=False)))
        repeated = 1 - different / total
        return repeated * self.max_penalty if repeated else 0.0


def cosine(progress: float, at_start: float, at_end: float) -> float:
    """From `at_start` (progress 0) to `at_end` (progress 1) along half a cosine; progress is held at 1."""
    return at_end + 0.5 * (at_start - at_end) * (1.0 + math.cos(min(progress, 1.0) * math.pi))
