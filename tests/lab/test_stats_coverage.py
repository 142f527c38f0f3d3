"""Simulated sweeps: do the intervals cover, and does the decision rule keep quiet when there is nothing to find?"""

from __future__ import annotations

import numpy as np
import pytest

from lab import stats
from lab.report_analysis import compare

SWEEPS = 2500


def normal(generator, shape):
    return generator.normal(0.0, 0.1, shape)


def beta(generator, shape):
    return generator.beta(6, 2, shape)


def learned_or_not(generator, shape):
    """A run in three never gets off the ground."""
    return np.where(generator.random(shape) < 2 / 3, 0.9, 0.2) + generator.normal(0, 0.05, shape)


def graded_on_eight_questions(generator, shape):
    return generator.binomial(8, 0.7, shape) / 8


SHAPES = [normal, beta, learned_or_not, graded_on_eight_questions]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
def test_interval_of_a_known_paired_difference_covers_93_to_97_percent_with_ten_seeds(shape):
    generator = np.random.default_rng(1)
    prompts = generator.normal(0, 0.2, (SWEEPS, 10))  # what a seed does to both arms
    ours = prompts + 0.07 + shape(generator, (SWEEPS, 10))
    theirs = prompts + shape(generator, (SWEEPS, 10))
    intervals = [stats.paired_difference([a], [b]) for a, b in zip(ours, theirs, strict=True)]
    assert 0.93 <= np.mean([i.low <= 0.07 <= i.high for i in intervals]) <= 0.97


@pytest.mark.slow
def test_interval_of_a_difference_over_three_tasks_covers_93_to_97_percent_with_ten_seeds():
    generator = np.random.default_rng(2)
    ours, theirs = (
        normal(generator, (SWEEPS, 3, 10)),
        normal(generator, (SWEEPS, 3, 10)) * np.array([[[1], [3], [0.5]]]),
    )
    intervals = [stats.paired_difference(list(a + 0.05), list(b)) for a, b in zip(ours, theirs, strict=True)]
    assert 0.93 <= np.mean([i.low <= 0.05 <= i.high for i in intervals]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda f: f.__name__)
def test_interval_of_the_iqm_covers_93_to_97_percent_with_ten_seeds(shape):
    generator = np.random.default_rng(3)
    truth = stats.iqm([shape(generator, 1_000_000)])
    intervals = [stats.iqm_interval([shape(generator, 10)], resamples=1000) for _ in range(SWEEPS)]
    assert 0.93 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "at_least"), [(3, 0.94), (5, 0.94), (10, 0.94)])
def test_paired_interval_holds_for_few_seeds_where_the_percentile_bootstrap_does_not(seeds, at_least):
    generator = np.random.default_rng(4)
    data = normal(generator, (SWEEPS, seeds))
    student = [stats.paired_difference([row], [np.zeros(seeds)]) for row in data]
    draws = generator.integers(0, seeds, (SWEEPS, 500, seeds))
    resampled = np.take_along_axis(data[:, None, :], draws, axis=2).mean(axis=2)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    assert np.mean([i.low <= 0 <= i.high for i in student]) >= at_least
    assert np.mean((low <= 0) & (high >= 0)) < 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("shift", [0.0, 0.8, 1.5])
def test_interval_of_the_probability_of_improvement_covers_at_least_93_percent(shift, seeds):
    generator = np.random.default_rng(5)
    truth = stats.distributions.norm.cdf(shift / np.sqrt(2))
    inside = []
    for _ in range(SWEEPS):
        estimate = stats.probability_of_improvement(
            [generator.normal(shift, 1, seeds)], [generator.normal(0, 1, seeds)]
        )
        inside.append(estimate.low <= truth <= estimate.high)
    assert np.mean(inside) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
def test_one_strategy_under_four_names_is_declared_different_in_at_most_5_percent_of_sweeps(shape, seeds):
    """Three arms against a reference, any of them: 1 sweep in 20 may err. 0.0545 is 5 % plus one standard error."""
    generator = np.random.default_rng(6)
    alarms = 0
    for sweep in shape(generator, (2000, 4, seeds)):
        table = {f"arm{i}": {"task": dict(enumerate(row))} for i, row in enumerate(sweep)}
        alarms += any(comparison.declared for comparison in compare(table, "arm0"))
    assert alarms / 2000 <= 0.0545


@pytest.mark.slow
def test_a_real_difference_is_declared():
    generator = np.random.default_rng(7)
    found = 0
    for _ in range(200):
        table = {
            name: {"task": dict(enumerate(shift + normal(generator, 10)))}
            for name, shift in {"reference": 0.0, "better": 0.25}.items()
        }
        found += compare(table, "reference")[0].declared
    assert found / 200 > 0.95
