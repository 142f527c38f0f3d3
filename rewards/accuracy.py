"""Is the answer right: exact, numeric, any of several references, multiple choice (rewards/answers/choice.py).

The reference comes from a dataset column (`column`, default "answer"); a row without one (None, NaN, a blank text or an
empty list) cannot be scored. A list of references means "any of these". Right is 1, wrong or missing is 0.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from rewards.answers.choice import multiple_choice
from rewards.answers.frame import Accuracy, Extractor
from rewards.answers.numbers import PERCENT, Number, exact_number, read_number
from rewards.answers.references import reference_text, same_typed
from rewards.answers.words import NORMALISE
from rewards.extract import last_number, whole_text

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.0)?")
UNITS = ("answer", "both", "none")


class exact_match(Accuracy):
    """1 where the normalised answer equals a normalised reference.

    A reference that is a number or a boolean is compared as such: 145.0 is "145" and "145.00", True is "true" and "yes"
    in any case. So is a text as programs write them: "145.0" and "145" (not "145.50" or "0145") are one, "True" is "true".

    Args:
        extract: rewards/extract.py; default the whole text.
        column: dataset column with the reference or the list of references.
        normalise: how texts are compared, rewards/answers/words.py: "strip" (Unicode forms, surrounding white space), "words"
            (also case, quotes, marks of sentences and runs of white space, but no sign or operator), or "none".
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
        if normalise not in NORMALISE:
            raise ValueError(f"normalise={normalise!r} is not one of {', '.join(NORMALISE)}.")
        self.normalise = normalise

    def same(self, answer: str, reference: Any, **row: Any) -> bool:
        if (typed := same_typed(answer, reference)) is not None:
            return typed
        normal, text = NORMALISE[self.normalise], reference_text(reference)
        if normal(answer) == normal(text):
            return True
        plain = text.strip().lower()
        if self.normalise == "none":
            return False
        if plain in ("true", "false"):
            return answer.strip().strip(".").lower() == plain
        return _WHOLE.fullmatch(plain) is not None and bool(same_typed(answer, int(plain.partition(".")[0])))


class numeric_match(Accuracy):
    r"""1 where the answer, read as a number (rewards/answers/numbers.py), is within tolerance of a reference.

    |answer - reference| <= max(absolute, relative * |reference|), in exact arithmetic. Text that is no number is wrong;
    a reference that is none cannot be scored.

    Args:
        extract: rewards/extract.py; default the last number of the text.
        column: dataset column with the reference (number or text) or a list of them.
        relative, absolute: tolerances, at least 0.
        percent: what "20%" is: "fraction" (0.2), "number" (20, the sign is a unit) or "either" (one of these has to fit;
            where both sides have the sign it is the same on both).
        units: where words may stand behind the number and are passed over, as in "9 cm" and "9 (apples)": in the
            "answer", in "both" answer and reference, or "none". A sign of a currency never matters.
        name: the name in the logs.

    Raises:
        ValueError: a negative tolerance, an unknown choice.
    """

    def __init__(
        self,
        extract: Extractor | None = None,
        *,
        column: str = "answer",
        relative: float = 1e-6,
        absolute: float = 0.0,
        percent: str = "either",
        units: str = "answer",
        name: str = "numeric_match",
    ):
        super().__init__(extract or last_number(), column, name)
        if not (0 <= relative < math.inf and 0 <= absolute < math.inf):
            raise ValueError("Tolerances must be at least 0, and finite.")
        for option, value, choices in (("percent", percent, PERCENT), ("units", units, UNITS)):
            if value not in choices:
                raise ValueError(f"{option}={value!r} is not one of {', '.join(choices)}.")
        self.relative, self.absolute, self.percent, self.units = relative, absolute, percent, units

    def same(self, answer: str, reference: Any, **row: Any) -> bool:
        given, wanted = self._read(answer, self.units != "none"), self._reference(reference)
        if given is None or wanted is None:
            return False
        if given.percent and wanted.percent:
            return self._close(given.value, wanted.value)
        return any(self._close(a, b) for a in given.values(self.percent) for b in wanted.values(self.percent))

    def right_answer(self, reference: Any, **row: Any) -> str | None:
        return None if self._reference(reference) is None else reference_text(reference)

    def _reference(self, reference: Any) -> Number | None:
        if isinstance(reference, str):
            return self._read(reference, self.units == "both")
        number = exact_number(reference)
        return None if number is None else Number(number)

    def _read(self, text: str, units: bool) -> Number | None:
        number = read_number(text)
        return None if number is not None and number.unit and not units else number

    def _close(self, number: Fraction, wanted: Fraction) -> bool:
        return abs(number - wanted) <= max(_exactly(self.absolute), _exactly(self.relative) * abs(wanted))


def to_number(value: Any) -> float | None:
    """A number, or a text that is one ("1,234.5", "-3e2", "50%", "3/4", "$5") -> float; else None.

    Per cent is a fraction here, and nothing may stand behind the number.
    """
    if isinstance(value, str):
        read = read_number(value)
        number = None if read is None or read.unit else read.values()[0]
    else:
        number = exact_number(value)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def _exactly(tolerance: float) -> Fraction:
    return Fraction(repr(float(tolerance)))


__all__ = ["exact_match", "multiple_choice", "numeric_match", "to_number"]
