"""Reference answers as a data set has them: texts, numbers, booleans, lists of any of these. A list means "any of these".

None, NaN, a blank text and an empty list are no reference: the row cannot be scored.
"""

from __future__ import annotations

import datetime
import math
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Any

from rewards.answers.numbers import exact_number, read_number

_YES, _NO = ("true", "yes"), ("false", "no")


def references_of(cell: Any) -> list:
    """The references of one row, in order; [] where there is none."""
    if hasattr(cell, "tolist"):  # NumPy
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, set, frozenset)):
        return [reference for part in cell for reference in references_of(part)]
    empty = (
        cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip())
    )
    return [] if empty else [cell]


def reference_text(reference: Any) -> str:
    """As a person writes it: 145.0 is "145", 1e-7 "0.0000001", True "true", a date "2024-01-31"."""
    if isinstance(reference, bool):
        return str(reference).lower()
    if isinstance(reference, datetime.datetime) and reference.time() == datetime.time():
        reference = reference.date()
    if isinstance(reference, (datetime.date, datetime.time)):
        return reference.isoformat()
    if isinstance(reference, bytes):
        return reference.decode("utf-8", "replace")
    if (number := exact_number(reference)) is None or isinstance(reference, Fraction):
        return str(reference)
    return str(number.numerator) if number.denominator == 1 else f"{Decimal(str(reference)):f}"


def same_typed(answer: str, reference: Any) -> bool | None:
    """Whether a text says the same as a reference that is no text: a number by its value ("145", "145.00" and "1,450"
    for 145.0 and 1450), True as true or yes in any case. None for a reference that is a text.

    A float that is no whole number is compared to seven digits, since files hold rounded ones.
    """
    if isinstance(reference, bool):
        return answer.strip().strip(".").lower() in (_YES if reference else _NO)
    if (wanted := exact_number(reference)) is None:
        return None
    number = read_number(answer)
    if number is None or number.percent or number.unit or any(unicodedata.category(mark) == "Sc" for mark in answer):
        return False
    if isinstance(reference, float) and wanted.denominator != 1:
        return abs(number.value - wanted) <= abs(wanted) / 10**7
    return number.value == wanted
