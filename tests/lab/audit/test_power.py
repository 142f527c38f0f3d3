"""Groups that are not told apart, and what is said of a pair."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from lab.audit.intervals import Bracket, equality, ratio
from lab.audit.power import NoisePair, comparisons, pair_in_words, ranked
from lab.audit.products import products_of


def pairs_of(names: str, told: set[str]) -> dict[tuple[str, str], NoisePair]:
    clear, open_ratio = Bracket(2.0, 1.5, 3.0), Bracket(1.1, 0.9, 1.3)
    return {
        (a, b): NoisePair(clear if a + b in told else open_ratio, 0.01 if a + b in told else 0.5, a + b in told, None)
        for a, b in combinations(names, 2)
    }


def noise(**values: float | None) -> dict[str, Bracket]:
    return {name: Bracket(value, 0.0, 100.0) for name, value in values.items()}


def test_a_group_ends_where_one_is_told_apart_from_any_of_its_members():
    found = noise(a=1.0, b=1.5, c=2.0, d=2.1)
    assert ranked(found, pairs_of("abcd", set())) == [["a", "b", "c", "d"]]
    # c is told from a, though not from b, its neighbour.
    assert ranked(found, pairs_of("abcd", {"ac"})) == [["a", "b"], ["c", "d"]]
    assert ranked(found, pairs_of("abcd", {"ac", "ad", "cd"})) == [["a", "b"], ["c"], ["d"]]


def test_what_has_no_number_comes_last():
    assert ranked(noise(a=None, b=3.0), pairs_of("ab", set())) == [["b", "a"]]


def test_a_pair_in_words():
    clear = NoisePair(Bracket(2.0, 1.5, 3.0), 0.01, True, None)
    assert pair_in_words("ab", clear, 8) == "a is noisier than b"
    calmer = NoisePair(Bracket(0.5, 0.3, 0.7), 0.01, True, None)
    assert pair_in_words("ab", calmer, 8) == "b is noisier than a"
    open_pair = NoisePair(Bracket(1.1, 0.9, 1.3), 0.4, False, 70)
    assert pair_in_words("ab", open_pair, 8) == "a and b cannot be told apart with 8 batches; about 70 would do"


def test_p_values_pay_for_the_number_of_pairs_and_not_for_multiples_of_each_other():
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([3.0, 0, 0], dtype=torch.float64)
    one, other = (mean + size * torch.randn(16, 3, generator=generator, dtype=torch.float64) for size in (1.0, 1.6))

    def of(*gradients: torch.Tensor):
        stacked = torch.stack(gradients)
        indices = {str(i): i for i in range(len(gradients))}
        return comparisons(products_of(torch.einsum("sbd,tcd->sbtc", stacked, stacked)), indices)

    alone = of(one, other)["0", "1"].p
    third = of(one, other, other + 0.1 * one.flip(0))
    assert 0 < alone < third["0", "1"].p <= 3 * alone + 1e-12
    twice = of(one, other, 5 * other)
    assert twice["1", "2"].is_same and not twice["1", "2"].told_apart
    assert alone < twice["0", "1"].p <= 2 * alone + 1e-12


def test_a_skewed_ratio_is_widened_to_the_interval_of_its_logarithm():
    sample = torch.tensor([1.0, 1.2, 0.9, 1.1, 1.0, 6.0], dtype=torch.float64)
    total = sample.sum()
    mean_X = torch.cat([(total / 6)[None], (total - sample) / 5])
    ones = torch.ones(7, dtype=torch.float64)
    plain, wide = ratio(mean_X, ones), ratio(mean_X, ones, positive=True)
    assert plain.low < 0 <= wide.low and wide.high > 1.5 * plain.high
    down = ratio(ones, mean_X, positive=True)
    assert down.low == pytest.approx(1 / wide.high, rel=0.3) and equality(mean_X, ones) > 0.05
