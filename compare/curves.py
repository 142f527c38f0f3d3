"""Statistics of learning curves: area, score at a budget, tokens to a threshold with censoring.

A curve is two equally long vectors, x increasing (generated tokens, or steps) and y (the metric).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid


@dataclass(frozen=True)
class Restricted:
    """Mean of min(time, horizon) over runs, its standard error, and the share of runs that got there."""

    value: float
    error: float
    reached: float
    horizon: float


def area_under_curve(x: ArrayLike, y: ArrayLike, until: float) -> float:
    """Mean height of the piecewise linear curve between its first x and `until` (trapezoid rule, exact for it).

    A mean, so it reads in the units of y. `until` must lie within x; a curve of one point is its height.
    """
    x, y = _curve(x, y)
    _within(x, until)
    if until <= x[0]:
        return float(y[0])
    inside = x < until
    x_cut, y_cut = np.append(x[inside], until), np.append(y[inside], np.interp(until, x, y))
    return float(trapezoid(y_cut, x_cut) / (until - x[0]))


def smoothed(y: ArrayLike, window: int) -> NDArray[np.float64]:
    """Mean of the last `window` points up to each point (fewer at the start): looks back only, never ahead."""
    y = np.asarray(y, dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(y)])
    last = np.arange(1, len(y) + 1)
    first = np.maximum(last - window, 0)
    return (total[last] - total[first]) / (last - first)


def score_at(x: ArrayLike, y: ArrayLike, at: float, window: int = 1) -> float:
    """Height of the smoothed curve at x = `at`, linear between points. `at` must not lie beyond the last x."""
    x, y = _curve(x, y)
    _within(x, at)
    return float(np.interp(at, x, smoothed(y, window)))


def time_to_threshold(x: ArrayLike, y: ArrayLike, threshold: float, window: int = 1) -> tuple[float, bool]:
    """First x at which the smoothed curve reaches `threshold`, and True; (last x, False) if it never does: censored.

    The first points do not count before `window` of them exist, so that one lucky batch is no arrival.
    """
    x, y = _curve(x, y)
    high = np.flatnonzero(smoothed(y, window)[window - 1 :] >= threshold)
    return (float(x[high[0] + window - 1]), True) if len(high) else (float(x[-1]), False)


def survival(times: ArrayLike, reached: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kaplan-Meier: (event times, share of runs still below the threshold after each).

    `reached[i]` False: run i was watched until `times[i]` without an event. At a tie events come before censorings.
    """
    times, reached = np.asarray(times, dtype=np.float64), np.asarray(reached, dtype=bool)
    events = np.unique(times[reached])
    at_risk = np.array([(times >= t).sum() for t in events], dtype=np.float64)
    happened = np.array([(reached & (times == t)).sum() for t in events], dtype=np.float64)
    return events, np.asarray(np.cumprod(1 - happened / at_risk), dtype=np.float64)


def restricted_mean(times: ArrayLike, reached: ArrayLike, horizon: float) -> Restricted:
    """Restricted mean time to the threshold: area under the Kaplan-Meier curve from 0 to `horizon`.

    Runs that never arrive count as `horizon`, which is a lower bound of their time; so this is a mean of
    min(time, horizon), comparable between arms at the same horizon only. With every run watched up to the horizon it
    equals the plain mean of min(time, horizon). Standard error: Greenwood's, times sqrt(n/(n-1)); NaN below 2 runs.
    Assumes that runs stopped early were not stopped because of how they were doing.
    """
    times, reached = np.asarray(times, dtype=np.float64), np.asarray(reached, dtype=bool)
    reached = reached & (times <= horizon)
    times = np.minimum(times, horizon)
    events, alive = survival(times, reached)
    edges = np.concatenate([[0.0], events, [horizon]])
    heights = np.concatenate([[1.0], alive])
    pieces = heights * np.diff(edges)
    tail = np.cumsum(pieces[::-1])[::-1][1:]  # area to the right of each event
    at_risk = np.array([(times >= t).sum() for t in events], dtype=np.float64)
    happened = np.array([(reached & (times == t)).sum() for t in events], dtype=np.float64)
    left = at_risk - happened
    terms = np.divide(tail**2 * happened, at_risk * left, out=np.zeros_like(tail), where=left > 0)
    runs = len(times)
    error = float(np.sqrt(terms.sum() * runs / (runs - 1))) if runs > 1 else float("nan")
    return Restricted(float(pieces.sum()), error, float(reached.mean()), float(horizon))


def _curve(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"A curve needs equally long x and y, got {x.shape} and {y.shape}.")
    if np.any(np.diff(x) < 0) or not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError(
            "A curve's x must not decrease, and both must be finite; drop points without the metric first."
        )
    return x, y


def _within(x: NDArray[np.float64], at: float) -> None:
    if at > x[-1] * (1 + 1e-12):
        raise ValueError(f"The curve ends at {x[-1]:g}, before {at:g}; compare at a budget every run has reached.")
