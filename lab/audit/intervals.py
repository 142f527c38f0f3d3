"""Intervals for ratios of estimates whose denominator may be close to zero; what they cover is measured (docs/audit.md).

A number is a vector over X: its estimate from all batches, then from all but one each. Any smooth function of such vectors is one
more, and its variance is the jackknife's, (B - 1) / B times the sum of squared deviations of the B entries.

For a ratio N / E: the set of all r for which N - r E is no further from 0 than t standard errors (Fieller 1954), Student's t of B - 1
degrees. It has no upper end where E is not told from 0, and no other honest interval has one. Where N and E are positive whichever
batch is left out, it is widened to the jackknife interval of the logarithm: ratios are skewed, and the straight one lies too high.

Shapes: S strategies, B generation batches, X all batches and then each left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats as distributions
from torch import Tensor

LEVEL = 0.95
ROUNDING = 1e-12
SINGLE = 1e-5  # how far numbers that are equal may lie apart after single precision


@dataclass(frozen=True)
class Bracket:
    """A number and its interval. value: None where the batches give none. low, high: may be infinite. note: what to know."""

    value: float | None
    low: float
    high: float
    note: str | None = None

    def record(self) -> dict[str, float | str | None]:
        """For JSON: an end that is infinite is None."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "note": self.note}

    def times(self, factor: float) -> Bracket:
        """In another unit; factor > 0."""
        value = None if self.value is None else self.value * factor
        return Bracket(value, self.low * factor, self.high * factor, self.note)

    def holds(self, number: float) -> bool:
        """Whether the number lies in the interval, its ends included."""
        return self.low <= number <= self.high


def student(batches: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t with one degree less than batches."""
    return float(distributions.t.ppf(0.5 + level / 2, batches - 1))


def covariance(*numbers_X: Tensor) -> Tensor:
    """The jackknife's covariance of some numbers, a row and a column for each."""
    left = torch.stack([number_X[1:] for number_X in numbers_X])
    deviation = left - left.mean(dim=1, keepdim=True)
    return deviation @ deviation.T * (left.shape[1] - 1) / left.shape[1]


def ratio(numerator_X: Tensor, denominator_X: Tensor, positive: bool = False) -> Bracket:
    """Interval of a ratio.

    Args:
        positive: the ratio cannot be negative, and its denominator neither.
    """
    above, below = float(numerator_X[0]), float(denominator_X[0])
    low, high = _fieller(numerator_X, denominator_X, positive)
    value = above / below if below > 0 else None
    if positive:
        value = None if value is None else max(value, 0.0)
        low, high = max(low, 0.0), max(high, 0.0)
        if (logs_X := _logarithm(numerator_X, denominator_X)) is not None:
            half = student(len(logs_X) - 1) * math.sqrt(float(covariance(logs_X)))
            low = min(low, math.exp(float(logs_X[0]) - half))
            high = max(high, math.exp(min(float(logs_X[0]) + half, 700.0)))
    return Bracket(value, low, high)


def equality(one_X: Tensor, other_X: Tensor) -> float:
    """Two-sided p-value of the hypothesis that two positive numbers are equal: the larger of that of their difference and that
    of the difference of their logarithms, as `ratio` takes the wider interval. 1 where they are the same batch by batch."""
    statistics = [one_X - other_X]
    if (logs_X := _logarithm(one_X, other_X)) is not None:
        statistics.append(logs_X)
    scale = float(one_X.abs().max() + other_X.abs().max())
    if float(statistics[0].abs().max()) <= SINGLE * scale:
        return 1.0
    degrees = len(one_X) - 2
    scores = [abs(float(each_X[0])) / math.sqrt(max(float(covariance(each_X)), 1e-300)) for each_X in statistics]
    return float(2 * distributions.t.sf(min(scores), degrees))


def root(bounds: Bracket) -> Bracket:
    """Interval of the square root of a number that cannot be negative."""
    value = None if bounds.value is None else math.sqrt(max(bounds.value, 0.0))
    return Bracket(value, math.sqrt(max(bounds.low, 0.0)), math.sqrt(max(bounds.high, 0.0)), bounds.note)


def _fieller(numerator_X: Tensor, denominator_X: Tensor, positive: bool) -> tuple[float, float]:
    """Ends of the smallest interval that holds every ratio which is not rejected."""
    above, below = float(numerator_X[0]), float(denominator_X[0])
    square = student(len(numerator_X) - 1) ** 2
    (nn, ne), (_, ee) = (covariance(numerator_X, denominator_X) * square).tolist()
    a, b, c = below**2 - ee, above * below - ne, above**2 - nn
    open_low = 0.0 if positive else -math.inf
    root_of = math.sqrt(max(b**2 - a * c, 0.0))
    if a > ROUNDING * below**2:
        return (b - root_of) / a, (b + root_of) / a
    if b**2 <= a * c or a == 0:
        return open_low, math.inf
    # All but what lies between the roots; of that, a ratio that cannot be negative keeps what is above them.
    first, second = sorted(((b - root_of) / a, (b + root_of) / a))
    return (max(second, 0.0), math.inf) if positive and first < 0 else (open_low, math.inf)


def _logarithm(one_X: Tensor, other_X: Tensor) -> Tensor | None:
    """Of the ratio; None where it is not defined whichever batch is left out."""
    if float(torch.minimum(one_X.min(), other_X.min())) <= 0:
        return None
    return one_X.log() - other_X.log()
