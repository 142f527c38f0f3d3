"""Is the answer right: exact, numeric, multiple choice, any of several references.

The reference comes from a dataset column (`column`, default "answer"); a row without one (None, or an empty list)
cannot be scored. A list of references means "any of these". Right is 1, wrong or missing is 0.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Callable
from typing import Any

from rewards.base import TextReward
from rewards.extract import last_number, whole_text

Extractor = Callable[[str], "str | None"]


class _Accuracy(TextReward):
    """Extract, then compare with every reference of the row."""

    def __init__(self, extract: Extractor, column: str, name: str):
        self.extract, self.column, self.columns, self.__name__ = extract, column, (column,), name

    def same(self, answer: str, reference: Any) -> bool:
        raise NotImplementedError

    def score(self, text: str, **row: Any) -> float | None:
        references = _references(row[self.column])
        if not references:
            return None
        answer = self.extract(text)
        return float(answer is not None and any(self.same(answer, reference) for reference in references))

    def parts(self, text: str, **row: Any) -> dict[str, float | None]:
        return {"answer found": float(self.extract(text) is not None), "right": self.score(text, **row)}


class exact_match(_Accuracy):
    """1 where the normalised answer equals a normalised reference.

    Args:
        extract: rewards/extract.py; default the whole text.
        column: dataset column with the reference or the list of references.
        normalise: "strip" (Unicode NFKC, surrounding white space), "words" (also case, punctuation and runs of white
            space), or "none".
        name: the name in the logs.

    Raises:
        ValueError: no such normalisation.
    """

    def __init__(
        self,
        extract: Extractor | None = None,
        *,
        column: str = "answer",
        normalise: str = "strip",
        name: str = "exact_match",
    ):
        super().__init__(extract or whole_text(), column, name)
        if normalise not in _NORMALISE:
            raise ValueError(f"normalise={normalise!r} is not one of {', '.join(_NORMALISE)}.")
        self.normalise = normalise

    def same(self, answer: str, reference: Any) -> bool:
        normal = _NORMALISE[self.normalise]
        return normal(answer) == normal(str(reference))


class numeric_match(_Accuracy):
    """1 where the answer, read as a number, is within tolerance of a reference.

    |answer - reference| <= max(absolute, relative * |reference|). "1,234.5", "50%" (0.5) and "3/4" are read; text that
    is no number is wrong. A reference that is no number cannot be scored.

    Args:
        extract: rewards/extract.py; default the last number of the text.
        column: dataset column with the reference (number or text) or a list of them.
        relative, absolute: tolerances, at least 0.
        name: the name in the logs.

    Raises:
        ValueError: a negative tolerance.
    """

    def __init__(
        self,
        extract: Extractor | None = None,
        *,
        column: str = "answer",
        relative: float = 1e-6,
        absolute: float = 0.0,
        name: str = "numeric_match",
    ):
        super().__init__(extract or last_number(), column, name)
        if relative < 0 or absolute < 0:
            raise ValueError("Tolerances must be at least 0.")
        self.relative, self.absolute = relative, absolute

    def score(self, text: str, **row: Any) -> float | None:
        references = [
            number for reference in _references(row[self.column]) if (number := to_number(reference)) is not None
        ]
        return super().score(text, **{self.column: references})

    def same(self, answer: str, reference: Any) -> bool:
        number = to_number(answer)
        return number is not None and abs(number - reference) <= max(self.absolute, self.relative * abs(reference))


class multiple_choice(_Accuracy):
    """1 where the chosen letter is the reference's.

    The choice is the letter alone, or in the forms "(B)", "B.", "B)", "B: text", "option B", "answer is B".
    A reference may be a letter or a 0-based index.

    Args:
        extract: rewards/extract.py, run first; default the whole text.
        column: dataset column with the reference.
        letters: the choices, in order.
        name: the name in the logs.
    """

    def __init__(
        self,
        extract: Extractor | None = None,
        *,
        column: str = "answer",
        letters: str = "ABCDE",
        name: str = "multiple_choice",
    ):
        super().__init__(extract or whole_text(), column, name)
        if not letters.isalpha() or len(set(letters.upper())) != len(letters):
            raise ValueError(f"letters={letters!r} must be different letters, as in ABCD.")
        self.letters = letters.upper()
        choice = f"[{self.letters}]"
        self._alone = re.compile(rf"\s*\(?({choice})(?:[).:]|\s*$)", re.IGNORECASE)
        self._named = re.compile(rf"(?i:\b(?:answer|option|choice)\b)(?i: is)?:? ?\(?({choice})\b")

    def same(self, answer: str, reference: Any) -> bool:
        return self._choice(answer) == self._reference(reference)

    def _choice(self, text: str) -> str | None:
        if found := self._alone.match(text):
            return found.group(1).upper()
        named = self._named.findall(text)
        return named[-1].upper() if named else None

    def _reference(self, reference: Any) -> str:
        if isinstance(reference, int) and not isinstance(reference, bool):
            return self.letters[reference] if 0 <= reference < len(self.letters) else ""
        return str(reference).strip().strip("().:").upper()


def to_number(value: Any) -> float | None:
    """A number, or a text that is one ("1,234.5", "-3e2", "50%", "3/4", "$5") -> float; else None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if not isinstance(value, str) else _parsed(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _parsed(text: str) -> float:
    text = unicodedata.normalize("NFKC", text).strip().replace("\u2212", "-").replace(",", "").replace("$", "")
    scale = 0.01 if text.endswith("%") else 1.0
    above, slash, below = text.rstrip("%").partition("/")
    return scale * (float(above) / float(below) if slash else float(above))


def _references(reference: Any) -> list:
    if reference is None:
        return []
    return list(reference) if isinstance(reference, (list, tuple, set)) else [reference]


def _strip(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _words(text: str) -> str:
    kept = "".join(" " if mark in string.punctuation else mark for mark in _strip(text).casefold())
    return " ".join(kept.split())


_NORMALISE: dict[str, Callable[[str], str]] = {"none": str, "strip": _strip, "words": _words}
