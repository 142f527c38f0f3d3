"""Intervals of ratios: what they are by definition, and where they end."""

from __future__ import annotations

import math

import pytest
import torch

from lab.audit.intervals import Bracket, covariance, equality, ratio, root, student


def jackknife(sample: torch.Tensor) -> torch.Tensor:
    """A mean as a number over X."""
    total, count = sample.sum(), len(sample)
    return torch.cat([(total / count)[None], (total - sample) / (count - 1)])


def draws(mean: float, spread: float, count: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + spread * torch.randn(count, generator=generator, dtype=torch.float64)


def test_the_jackknife_of_means_is_the_textbook_covariance():
    one, other = draws(1, 2, seed=1), draws(5, 1, seed=2)
    found = covariance(jackknife(one), jackknife(other))
    torch.testing.assert_close(found, torch.cov(torch.stack([one, other])) / 12)


def test_with_a_denominator_of_one_it_is_students_interval():
    sample = draws(0.3, 1)
    found = ratio(jackknife(sample), torch.ones(13, dtype=torch.float64))
    half = student(12) * float(sample.std()) / math.sqrt(12)
    assert (found.value, found.low, found.high) == pytest.approx(
        (float(sample.mean()), float(sample.mean()) - half, float(sample.mean()) + half)
    )


@pytest.mark.parametrize("below", [3.0, 0.4, -0.2])
def test_a_ratio_is_kept_if_and_only_if_a_t_test_does_not_reject_it(below):
    """Fieller by brute force. Where the set has two parts or is everything, the interval is the smallest that holds it."""
    above_X, below_X = jackknife(draws(2, 1, seed=3)), jackknife(draws(below, 1, seed=4))
    found = ratio(above_X, below_X)
    kept = []
    for r in torch.linspace(-40, 40, 1601).tolist():
        rest_X = above_X - r * below_X
        if abs(float(rest_X[0])) <= student(12) * math.sqrt(float(covariance(rest_X))):
            kept.append(r)
    if math.isinf(found.high):
        assert max(kept) == 40 and found.low == -math.inf
    else:
        assert (found.low, found.high) == pytest.approx((min(kept), max(kept)), abs=0.06)


def test_a_denominator_that_is_not_told_from_zero_gives_no_upper_end():
    above_X, below_X = jackknife(draws(20, 1)), jackknife(draws(0.5, 2, seed=5))
    found = ratio(above_X, below_X, positive=True)
    assert found.high == math.inf and 0 < found.low < found.value
    never = ratio(above_X, -below_X, positive=True)
    assert never.value is None and never.high == math.inf


def test_the_unit_of_a_number_does_not_matter():
    above_X, below_X = jackknife(draws(5, 1)), jackknife(draws(2, 0.3, seed=6))
    found, scaled = ratio(above_X, below_X, positive=True), ratio(7 * above_X, 7 * below_X, positive=True)
    assert (found.low, found.high) == pytest.approx((scaled.low, scaled.high))
    times = ratio(3 * above_X, below_X, positive=True)
    assert (found.times(3).low, found.times(3).high) == pytest.approx((times.low, times.high))


def test_numbers_are_equal_where_the_interval_of_their_ratio_holds_one():
    for seed in range(40):
        one_X, other_X = jackknife(draws(10, 1, seed=seed)), jackknife(draws(9.3, 1, seed=seed + 100))
        assert (equality(one_X, other_X) >= 0.05) == ratio(one_X, other_X, positive=True).holds(1.0)
    assert equality(one_X, one_X * (1 + 1e-12)) == 1.0


def test_an_infinite_end_is_none_in_json():
    assert Bracket(None, 0.5, math.inf, "why").record() == {"value": None, "low": 0.5, "high": None, "note": "why"}
    assert root(Bracket(4.0, -1.0, 9.0)) == Bracket(2.0, 0.0, 3.0)
