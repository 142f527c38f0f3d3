"""Simulated sweeps: do the intervals cover, and does the decision rule keep quiet when there is nothing to find?

`python -m compare.report.coverage` prints the same shares for every shape and number of seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

from compare.report import coverage
from compare.report.analysis import compare

pytestmark = pytest.mark.slow
SWEEPS = 2500
BELLS = [coverage.normal, coverage.beta, coverage.eight_questions]
SHAPES = [*BELLS, coverage.learned_or_not]


def name(value):
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_interval_of_a_known_paired_difference_covers_93_to_97_percent_with_ten_seeds(shape):
    ours, bootstrap = coverage.paired_differences(shape, 10, SWEEPS)
    assert 0.93 <= ours.share <= 0.97
    assert bootstrap.share < 0.93


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("shape", BELLS, ids=name)
def test_paired_interval_holds_for_few_seeds_where_the_percentile_bootstrap_does_not(shape, seeds):
    ours, bootstrap = coverage.paired_differences(shape, seeds, SWEEPS)
    assert ours.share >= 0.93
    assert bootstrap.share < 0.88


def test_interval_of_a_difference_over_three_tasks_covers_93_to_97_percent_with_ten_seeds():
    generator = np.random.default_rng(2)
    ours, theirs = (coverage.normal(generator, (SWEEPS, 3, 10)) for _ in range(2))
    theirs = theirs * np.array([[[1], [3], [0.5]]])
    found = [coverage.stats.paired_difference(list(a + 0.05), list(b)) for a, b in zip(ours, theirs, strict=True)]
    assert 0.93 <= np.mean([i.low <= 0.05 <= i.high for i in found]) <= 0.97


@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_interval_of_the_iqm_covers_93_to_97_percent_with_ten_seeds(shape):
    ours, bootstrap = coverage.iqm_levels(shape, 10, SWEEPS)
    assert 0.93 <= ours.share <= 0.97
    assert bootstrap.share < ours.share


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("shape", BELLS, ids=name)
def test_interval_of_the_iqm_holds_for_few_seeds_where_the_range_of_the_data_cannot(shape, seeds):
    ours, bootstrap = coverage.iqm_levels(shape, seeds, SWEEPS)
    assert ours.share >= 0.92
    assert bootstrap.share < 0.92


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("shift", [0.0, 0.8, 1.5])
def test_interval_of_the_probability_of_improvement_covers_at_least_93_percent(shift, seeds):
    (ours,) = coverage.improvements(shift, seeds, SWEEPS)
    assert ours.share >= 0.93


@pytest.mark.parametrize("seeds", coverage.SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_one_strategy_under_four_names_is_declared_different_in_at_most_5_percent_of_sweeps(shape, seeds):
    """Three arms against a reference, any of them: 1 sweep in 20 may err. 0.0598 is 5 % plus two standard errors."""
    assert coverage.false_alarms(shape, seeds, 2000).share <= 0.0598


@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_students_test_with_five_pairs_errs_in_at_most_5_percent_of_100000_sweeps(shape):
    assert coverage.false_alarms_of_t(shape, 5).share <= 0.05


def test_intervals_of_a_whole_report_cover_93_to_97_percent_with_ten_seeds():
    """From learning curves with noise of batches, runs and seeds to the three measures whose truth is known."""
    shares = list(coverage.whole_reports(10, 1000))
    assert len(shares) == 3
    assert all(0.93 <= share.share <= 0.97 for share in shares), shares


def test_whole_report_on_one_strategy_under_three_names_errs_in_at_most_5_percent_whatever_decides():
    shares = list(coverage.whole_alarms(10, 1000))
    assert len(shares) == 4
    assert all(share.share <= 0.0638 for share in shares), shares  # 5 % plus two standard errors


def test_a_real_difference_is_declared():
    generator = np.random.default_rng(7)
    found = 0
    for _ in range(200):
        table = {
            arm: {"task": dict(enumerate(map(float, shift + coverage.normal(generator, (10,)))))}
            for arm, shift in {"reference": 0.0, "better": 0.25}.items()
        }
        found += compare(table, "reference")[0].declared
    assert found / 200 > 0.95
