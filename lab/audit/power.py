"""Which of two strategies is noisier, whether these batches can tell, and how many could.

Shapes: S strategies, B generation batches, X all batches and then each left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from compare.statistics import holm, seeds_needed
from lab.audit.intervals import LEVEL, Bracket, covariance, equality, ratio
from lab.audit.products import Products

MOST = 1000  # batches; beyond, no number is given


@dataclass(frozen=True)
class NoisePair:
    """Of the noise-to-signal ratios of two strategies on the same completions, so noise that they share cancels.

    noise_ratio: of the first over the second. p: that they are equal, adjusted for all pairs of the audit (Holm). told_apart: p <= 0.05.
    batches_needed: with about how many these two would be told apart with a probability of 80 %, if they differ as they seem to;
        None: they are told apart, or more than `MOST`, or they are the same batch by batch.
    """

    noise_ratio: Bracket
    p: float
    told_apart: bool
    batches_needed: int | None

    @property
    def is_same(self) -> bool:
        """Whether one is a multiple of the other in every batch."""
        return self.noise_ratio.low == self.noise_ratio.high

    def record(self) -> dict:
        """For JSON."""
        return {
            "noise_ratio": self.noise_ratio.record(),
            "p": self.p,
            "told_apart": self.told_apart,
            "batches_needed": self.batches_needed,
        }


def comparisons(products: Products, indices: Mapping[str, int]) -> dict[tuple[str, str], NoisePair]:
    """Of all pairs of the strategies named, by their index among S."""
    pairs = list(combinations(indices, 2))
    raw = [_compared(products, indices[one], indices[other], len(pairs)) for one, other in pairs]
    adjusted = holm([math.nan if each.is_same else each.p for each in raw])
    found = {}
    for pair, each, p in zip(pairs, raw, adjusted, strict=True):
        told = p <= 1 - LEVEL
        if not each.is_same:
            each = replace(each, p=p, told_apart=told, batches_needed=None if told else each.batches_needed)
        found[pair] = each
    return found


def ranked(noise: Mapping[str, Bracket], pairs: Mapping[tuple[str, str], NoisePair]) -> list[list[str]]:
    """Strategies from little noise to much, in groups of which no two members are told apart; those whose signal was not seen come
    last. Members of two groups that stand next to each other may not be told apart either: `pairs` says which are."""
    order = sorted(noise, key=lambda name: math.inf if (value := noise[name].value) is None else value)
    groups: list[list[str]] = []
    for name in order:
        if groups and not any(_told(pairs, name, member) for member in groups[-1]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def pair_in_words(pair: Sequence[str], found: NoisePair, batches: int) -> str:
    """One line on a pair."""
    one, other = pair
    if found.told_apart:
        first, second = (one, other) if (found.noise_ratio.value or 0) > 1 else (other, one)
        return f"{first} is noisier than {second}"
    about = f"about {found.batches_needed} would do" if found.batches_needed else f"nor would {MOST} do"
    if found.is_same:
        about = "one is a multiple of the other"
    return f"{one} and {other} cannot be told apart with {batches} batches; {about}"


def _compared(products: Products, one: int, other: int, pairs: int) -> NoisePair:
    """Before p is adjusted."""
    noise_XS, signal_XS = products.noise_XS, products.signal_XS
    # a/b > c/d as ad > bc, which stays a number where a signal is close to zero.
    left_X, right_X = noise_XS[:, one] * signal_XS[:, other], noise_XS[:, other] * signal_XS[:, one]
    p = equality(left_X, right_X)
    if p == 1.0:
        return NoisePair(Bracket(1.0, 1.0, 1.0, "the same in every batch"), p, False, None)
    spread = math.sqrt(float(covariance(left_X - right_X)) * products.batches)
    needed = seeds_needed(float(left_X[0] - right_X[0]), spread, comparisons=pairs)
    return NoisePair(ratio(left_X, right_X, positive=True), p, False, needed if needed <= MOST else None)


def _told(pairs: Mapping[tuple[str, str], NoisePair], one: str, other: str) -> bool:
    return pairs[(one, other) if (one, other) in pairs else (other, one)].told_apart
