"""Numbers as a page needs them: four digits, and nothing that JSON does not have."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def short_number(value: float | None) -> float | None:
    """As `short_numbers`, of one."""
    return short_numbers([value])[0]


def short_numbers(values: Iterable[float | None]) -> list[float | None]:
    """Four significant digits are more than a colour shows; null instead of NaN, which JSON does not have."""
    exact = np.array(list(values), dtype=float)
    if len(exact) > 1 and (exact == exact[0]).all():
        return short_numbers(exact[:1]) * len(exact)  # as credit often is
    fine = np.isfinite(exact)
    size = np.where(fine & (exact != 0), np.abs(exact), 1.0)
    places = np.clip(3 - np.floor(np.log10(size)), -300, 300)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        short = np.round(np.where(fine, exact, 0.0) / down * up) / up * down
    short = np.where(np.isfinite(short), short, exact)
    if fine.all():
        return short.tolist()
    return [value if known else None for value, known in zip(short.tolist(), fine.tolist(), strict=True)]
