"""The reference column of a table: its cells keep their type, as far as one column can have one type."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from rewards.answers.references import reference_text, references_of

_INT64, _EXACT_FLOAT = 2**63, 2**53


def typed(cells: Sequence[Any], places: Sequence[str], column: str = "answer") -> list[Any]:
    """One reference, one list of them, or None for each cell.

    Texts, booleans, whole and other numbers stay what they are where the whole column has that type (145.0 stays 145.0);
    whole and other numbers together become floats. In any other mixture, and where a number needs more than 64 bits, all
    become texts as a person writes them ("145", "true"). Dates are texts. If one cell is a list, every cell is.

    Raises:
        ValueError: a cell is an object; the message says how to name one of its keys.
    """
    for cell, place in zip(cells, places, strict=True):
        for reference in references_of(cell):
            if isinstance(reference, Mapping):
                keys = ", ".join(map(str, reference))
                raise ValueError(
                    f"{place}: the answer is an object with the keys {keys}. Name one of them, as in "
                    f"task.answer_column={column}.{next(iter(reference), 'key')}."
                )
    many = any(not isinstance(cell, (str, bytes)) and hasattr(cell, "__len__") for cell in cells)
    rows = [[_plain(reference) for reference in references_of(cell)] for cell in cells]
    convert = _conversion({type(reference) for row in rows for reference in row}, rows)
    rows = [[convert(reference) for reference in row] for row in rows]
    return [None if not row else row if many else row[0] for row in rows]


def answer_after_marker(cell: Any, marker: str) -> Any:
    """What follows the last marker, in a text or in each text of a list; what has no marker stays."""
    if isinstance(cell, (list, tuple)):
        return [answer_after_marker(part, marker) for part in cell]
    return cell.rpartition(marker)[2].strip() if isinstance(cell, str) else cell


def _conversion(kinds: set[type], rows: list[list]) -> Any:
    whole = [reference for row in rows for reference in row if type(reference) is int]
    if len(kinds) == 1 and all(-_INT64 <= number < _INT64 for number in whole):
        return lambda reference: reference
    if kinds == {int, float} and all(abs(number) <= _EXACT_FLOAT for number in whole):
        return float
    return reference_text


def _plain(reference: Any) -> Any:
    if hasattr(reference, "item") and not hasattr(reference, "__len__"):  # NumPy
        reference = reference.item()
    if isinstance(reference, Decimal) and reference.is_finite():
        if reference == reference.to_integral_value():
            return int(reference)
        return float(reference) if Fraction(repr(float(reference))) == Fraction(reference) else f"{reference:f}"
    if isinstance(reference, (datetime.date, datetime.time, bytes)):
        return reference_text(reference)
    return reference if isinstance(reference, (bool, int, float, str)) else str(reference)
