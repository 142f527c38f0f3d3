"""How far a strategy's expected gradient m is turned away from the reference's, g: an interval by drawing signs.

With u = <m, g> / |m|^2 the part of g that m lacks is d = g - u m, and |d|^2 / |g|^2 is the squared sine of the angle between them: the
relative bias of lab/measure/metrics.py is its tangent. The d[b] of single batches are paired, so noise that both strategies share
cancels, and what lies along m (where u was fitted) is taken out of them.

The estimate of |d|^2 by products of different batches is far from normal where there is no bias: a sum of products of noise,
skewed to the right. So its distribution is drawn. If the mean of d is zero, signs given to the batches at random leave
sum over b != c of <d[b], d[c]> its distribution (exactly, where noise is symmetric). For a sine above zero, the same with the batches'
deviations round a mean of that length; the interval holds every sine of whose two tails neither is rarer than (1 - level) / 2.

Shapes: S strategies, B generation batches, X all batches and then each left out, n draws of signs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy import stats as distributions
from torch import Tensor

from lab.audit.intervals import LEVEL, Bracket, covariance, student
from lab.audit.products import Products

DRAWS = 2000
ROUNDING = 1e-9  # of squares, in single precision


@dataclass(frozen=True)
class Angle:
    """Between the expected gradients of a strategy and the reference.

    sine: of the angle; its value is None where m is not seen or points backwards. forward: whether <m, g> is above zero (True), below it
    (False), or not told (None). p: of the hypothesis that there is no bias.
    """

    sine: Bracket
    forward: bool | None
    p: float

    @property
    def cosine(self) -> Bracket:
        """Between -1 and 1."""
        if self.forward is False:
            value = None if self.sine.value is None else -_other(self.sine.value)
            return Bracket(value, -_other(self.sine.low), -_other(self.sine.high))
        most = _other(self.sine.low)
        least = _other(self.sine.high) if self.forward else -most
        return Bracket(None if self.sine.value is None else _other(self.sine.value), least, most)

    @property
    def tangent(self) -> Bracket:
        """The relative bias; without upper end where the angle may be a right one."""
        if self.forward is False:
            return Bracket(None, math.inf, math.inf)
        value = None if self.sine.value is None else _tangent(self.sine.value)
        return Bracket(value, _tangent(self.sine.low), _tangent(self.sine.high) if self.forward else math.inf)


def angle(gram_SBSB: Tensor, products: Products, strategy: int, reference: int) -> Angle:
    """Of the strategy with an index among S."""
    own_X = products.means_XSS[:, strategy, strategy]
    both_X = products.means_XSS[:, strategy, reference]
    true_X = products.means_XSS[:, reference, reference]
    own, both, true = (float(each_X[0]) for each_X in (own_X, both_X, true_X))
    forward = _sign(both_X)
    residual_BB, scale = _residuals(gram_SBSB, own, both, strategy, reference)
    if float(residual_BB.diagonal().sum()) <= ROUNDING * scale:
        return Angle(Bracket(0.0, 0.0, 0.0), True, 1.0)
    if own <= 0 or true <= 0:
        return Angle(Bracket(None, 0.0, 1.0), forward, 1.0)
    # What fitting u takes away from |d|^2 is given back.
    fitted = own * float(covariance(both_X / own_X))
    squared = (true - both**2 / own + fitted) / true
    low, high, p = _sines(residual_BB, gram_SBSB[reference, :, reference], true)
    value = math.sqrt(min(max(squared, 0.0), 1.0))
    return Angle(Bracket(value, low, high), forward, p)


def _residuals(gram_SBSB: Tensor, own: float, both: float, strategy: int, reference: int) -> tuple[Tensor, float]:
    """<d[b], d[c]> without what lies along the mean of m; and the size of what was subtracted from what."""
    m_BB, g_BB = gram_SBSB[strategy, :, strategy], gram_SBSB[reference, :, reference]
    mg_BB = gram_SBSB[strategy, :, reference]
    if own <= 0:
        return g_BB, float(g_BB.diagonal().sum())
    u = both / own
    d_BB = g_BB - u * (mg_BB + mg_BB.T) + u**2 * m_BB
    along_B = (mg_BB - u * m_BB).mean(dim=0)
    return d_BB - torch.outer(along_B, along_B) / m_BB.mean(), float(g_BB.diagonal().sum())


def _sines(residual_BB: Tensor, reference_BB: Tensor, true: float) -> tuple[float, float, float]:
    """Both ends, and the p-value of sine 0."""
    batches = len(residual_BB)
    signs_nB = drawn_signs(batches)
    # Deviations from an estimated mean are too small and their tails too light, most where batches are few.
    stretch = student(batches) / float(distributions.norm.ppf(0.5 + LEVEL / 2))
    seen, along_n, noise_n = _drawn(residual_BB, signs_nB, stretch)
    seen_true, true_along_n, true_noise_n = _drawn(reference_BB, signs_nB, stretch)
    true_n = 2 * math.sqrt(true) * true_along_n + true_noise_n

    def is_rare(sine: float, above: bool) -> bool:
        drawn_n = 2 * sine * math.sqrt(true) * along_n + noise_n - sine**2 * true_n
        found = seen - sine**2 * seen_true
        tail_n = drawn_n >= found if above else drawn_n <= found
        return float(tail_n.double().mean()) < (1 - LEVEL) / 2

    low = _first(lambda sine: not is_rare(sine, above=True))
    high = 1 - _first(lambda rest: not is_rare(1 - rest, above=False))
    off_BB = residual_BB - torch.diag_embed(residual_BB.diagonal())
    flipped_n = ((signs_nB @ off_BB) * signs_nB).sum(dim=1)
    p = float((flipped_n >= off_BB.sum() - ROUNDING * residual_BB.abs().sum()).double().mean())
    return low, max(low, high), p


def _first(holds: Callable[[float], bool], steps: int = 14) -> float:
    """The smallest number of [0, 1] from which on something holds, or a little less; 1 if it holds nowhere."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low if high < 1 else 1.0


def _drawn(gram_BB: Tensor, signs_nB: Tensor, stretch: float) -> tuple[float, Tensor, Tensor]:
    """|mean|^2 as estimated, and, for each draw, the deviation of the mean along it, and that of its square from noise alone."""
    batches = len(gram_BB)
    row_B = gram_BB.mean(dim=1)
    mean = row_B.mean()
    centred_BB = (gram_BB - row_B[:, None] - row_B + mean) * batches / (batches - 1)
    along_B = (row_B - mean) / mean.clamp(min=1e-300).sqrt() * math.sqrt(batches / (batches - 1))
    off_BB = centred_BB - torch.diag_embed(centred_BB.diagonal())
    pairs = batches * (batches - 1)
    noise_n = ((signs_nB @ off_BB) * signs_nB).sum(dim=1) / pairs
    seen = float(gram_BB.sum() - gram_BB.diagonal().sum()) / pairs
    return seen, stretch * signs_nB @ along_B / batches, noise_n


@lru_cache(maxsize=8)
def drawn_signs(batches: int) -> Tensor:
    """(n, B) signs, the same at every call, the first all plus."""
    generator = torch.Generator().manual_seed(0)
    signs_nB = torch.randint(0, 2, (DRAWS, batches), generator=generator).double() * 2 - 1
    signs_nB[0] = 1.0
    return signs_nB


def _sign(both_X: Tensor) -> bool | None:
    """Of a number, where t standard errors tell it from zero."""
    half = student(len(both_X) - 1) * math.sqrt(float(covariance(both_X)))
    return None if abs(float(both_X[0])) <= half else float(both_X[0]) > 0


def _other(sine: float) -> float:
    return math.sqrt(max(1 - sine**2, 0.0))


def _tangent(sine: float) -> float:
    return math.inf if sine >= 1 else sine / _other(sine)
