"""Numbers as a report writes them: as many digits as their interval supports."""

from __future__ import annotations

import numpy as np

from compare import statistics as stats

MOST_DECIMALS = 6


def number(value: float, scale: float | None = None, sign: bool = False, least: int = 1) -> str:
    """Three significant digits, or, given a `scale` (the width of an interval), two digits of it, but never fewer than
    `least` of the number's own: what is not zero does not read as zero. Thousands as k, millions as M; "n/a" if there is
    no number."""
    if not np.isfinite(value):
        return "n/a"
    value += 0.0  # no minus before a zero
    size = max(abs(value), scale or 0.0)
    units = ((1e6, "M"), (1e3, "k"))
    factor, unit = next(((f, u) for f, u in units if size >= 10 * f or size >= f == 1e6), (1.0, ""))
    if value and abs(value) < factor / 10:
        factor, unit = 1.0, ""  # far below its scale: in a unit of its own
    plus = "+" if sign and value else ""
    step = (scale or abs(value) / 10) / factor
    decimals = _decimals(step, 1) if step > 0 else 0
    if scale and value and least:
        decimals = max(decimals, _decimals(abs(value) / factor, least - 1))
    if decimals > MOST_DECIMALS:
        return f"{value:{plus}.{max(1, least - 1)}e}".replace("-", "\u2212")
    text = f"{value / factor:{plus}.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text and not scale else text).replace("-", "\u2212") + unit


def _decimals(size: float, more: int) -> int:
    """Decimals down to the first digit of `size`, and `more`."""
    return max(0, int(more - np.floor(np.log10(size))))


def with_interval(estimate: stats.Estimate, sign: bool = False, ends: int = 1) -> str:
    """`value [low, high]` with the digits that the width of the interval supports, and the value with two of its own at
    least, the ends with `ends` of theirs, however wide it is; it does not break."""
    width = estimate.high - estimate.low
    scale = width if np.isfinite(width) and width > 0 else None
    if not np.isfinite(estimate.low):
        return f"{number(estimate.value, sign=sign)} [no\u00a0interval]"
    low, high = number(estimate.low, scale, sign, ends), number(estimate.high, scale, sign, ends)
    return f"{number(estimate.value, scale, sign, least=2)}\u00a0[{low},\u00a0{high}]"


def count(number: int, thing: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
