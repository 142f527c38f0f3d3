"""What a number cannot be: no length below zero, no reward above its maximum. Intervals and axes end there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple, TypeVar

import numpy as np

from compare.read import Run
from compare.statistics import Estimate

E = TypeVar("E", bound=Estimate)
_SHARES = ("credit/idle_turns", "tools/failure_frequency", "environments/failed")


class Bounds(NamedTuple):
    """`assumed`: nobody said so; every value logged lies inside."""

    low: float = -inf
    high: float = inf
    assumed: bool = False

    @property
    def width(self) -> float:
        return self.high - self.low


def parse_bounds(text: str) -> Bounds:
    """`0,1`, `0,inf` or `none`.

    Raises:
        ValueError: something else.
    """
    if text == "none":
        return Bounds()
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"bounds={text} must be two numbers, as bounds=0,1, or none.") from None
    if not low < high:
        raise ValueError(f"bounds={text}: the first must be the smaller.")
    return Bounds(low, high)


def bounds_of(metric: str, runs: Iterable[Run], given: Bounds | None = None) -> Bounds:
    """Those given; else lengths and batches are not negative, and a reward that was never logged outside of [0, 1] is taken to stay there;
    nothing is known of other numbers."""
    if given is not None:
        return given
    if metric in _SHARES:
        return Bounds(0.0, 1.0)
    if "length" in metric or metric in ("audit/critical_batch", "credit/turns"):
        return Bounds(0.0, inf)
    if not metric.removeprefix("eval_").startswith("reward") or metric.endswith("std"):
        return Bounds()
    seen = np.concatenate(
        [run.columns[metric][np.isfinite(run.columns[metric])] for run in runs if metric in run.columns]
    )
    inside = len(seen) and seen.min() >= 0 and seen.max() <= 1
    return Bounds(0.0, 1.0, assumed=True) if inside else Bounds()


def within(estimate: E, low: float, high: float) -> E:
    """The interval without what cannot be. It covers as often as before."""
    if not isfinite(estimate.low):
        return estimate
    ends = [min(max(end, low), high) for end in (estimate.low, estimate.high)]
    return replace(estimate, low=min(ends[0], estimate.value), high=max(ends[1], estimate.value))
