from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as independent

from compare import statistics as stats

scores = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=12)
pairs = st.integers(2, 9).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=n, max_size=n)] * 2)
)


def iqm_by_hand(values):
    values = sorted(values)
    cut = len(values) // 4
    kept = values[cut : len(values) - cut]
    return sum(kept) / len(kept)


@given(scores)
def test_iqm_is_the_mean_of_the_middle_half(values):
    assert stats.iqm([values]) == pytest.approx(iqm_by_hand(values), abs=1e-9)


def test_iqm_pools_runs_of_all_tasks():
    assert stats.iqm([[0.0, 1.0], [2.0, 9.0]]) == pytest.approx(1.5)


def test_bootstrap_of_the_iqm_has_the_moments_of_all_equally_likely_resamples():
    tasks = [np.array([0.1, 0.4, 0.8]), np.array([0.3, 0.35])]
    every = [
        iqm_by_hand([tasks[0][i] for i in a] + [tasks[1][i] for i in b])
        for a in product(range(3), repeat=3)
        for b in product(range(2), repeat=2)
    ]
    drawn = independent.trim_mean(stats.stratified_resamples(tasks, 40_000, seed=3), 0.25, axis=1)
    assert drawn.mean() == pytest.approx(np.mean(every), abs=0.002)
    assert drawn.std() == pytest.approx(np.std(every), abs=0.002)
    assert np.quantile(drawn, 0.1) == pytest.approx(np.quantile(every, 0.1), abs=0.01)


def test_bootstrap_never_moves_a_run_to_another_task():
    drawn = stats.stratified_resamples([np.zeros(3), np.ones(2)], 50, seed=0)
    assert (drawn == np.array([0, 0, 0, 1, 1])).all()


def test_iqm_interval_is_the_same_every_time_and_holds_the_value():
    data = [np.random.default_rng(0).normal(size=10)]
    first, second = stats.iqm_interval(data), stats.iqm_interval(data)
    assert first == second and first.low < first.value < first.high


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=3))
def test_iqm_interval_of_two_or_three_seeds_is_students_interval_of_the_mean(values):
    """Nothing is cut, and the range of the data alone would cover 50 or 75 %. Tolerance: a bootstrap of 4000."""
    estimate, sure = stats.iqm_interval([values]), stats.mean_interval([values])
    assert estimate.value == pytest.approx(sure.value)
    assert estimate.low == pytest.approx(sure.low, abs=0.05 * (sure.high - sure.low) + 1e-9)
    assert estimate.high == pytest.approx(sure.high, abs=0.05 * (sure.high - sure.low) + 1e-9)


def test_iqm_interval_is_wider_than_plain_percentiles():
    data = [np.random.default_rng(0).normal(size=7)]
    plain = independent.bootstrap(
        (data[0],), lambda a, axis: independent.trim_mean(a, 0.25, axis=axis), method="percentile", rng=1
    ).confidence_interval
    ours = stats.iqm_interval(data)
    assert ours.high - ours.low > 1.1 * (plain.high - plain.low)


def test_one_seed_gives_a_value_and_no_interval():
    for estimate in (stats.iqm_interval([[1.0]]), stats.paired_difference([[1.0]], [[0.5]])):
        assert np.isfinite(estimate.value) and np.isnan(estimate.low) and np.isnan(estimate.high)


@given(pairs)
def test_paired_difference_of_one_task_is_the_textbook_t_test(pair):
    a, b = map(np.array, pair)
    if (a - b).std() == 0:
        return
    mine, textbook = stats.paired_difference([a], [b]), independent.ttest_rel(a, b)
    interval = textbook.confidence_interval(0.95)
    assert mine.p == pytest.approx(textbook.pvalue, rel=1e-9)
    assert (mine.low, mine.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_paired_difference_of_two_tasks_is_welchs_test_of_one_against_the_other_negated():
    generator = np.random.default_rng(4)
    first, second = generator.normal(0.5, 1, 9), generator.normal(0.1, 3, 5)
    mine = stats.paired_difference([first, second], [np.zeros(9), np.zeros(5)])
    welch = independent.ttest_ind(first, -second, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert mine.p == pytest.approx(welch.pvalue, rel=1e-9)
    assert (2 * mine.low, 2 * mine.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_pairing_removes_what_the_seeds_share():
    shared = np.random.default_rng(0).normal(0, 100, 8)
    noise = np.random.default_rng(1).normal(0, 0.1, 8)
    assert stats.paired_difference([shared + 1 + noise], [shared]).low > 0.8


def test_identical_runs_are_not_different():
    same = stats.paired_difference([[0.2, 0.5, 0.9]], [[0.2, 0.5, 0.9]])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_constant_difference_of_two_pairs_proves_nothing():
    assert stats.paired_difference([[1.0, 1.0]], [[0.0, 0.0]]).p == pytest.approx(0.5)


@given(pairs)
def test_sign_flips_match_scipys_exact_permutation_test(pair):
    a, b = map(np.array, pair)
    theirs = independent.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert stats.sign_flip_p([a], [b]) == pytest.approx(theirs, abs=1e-9)


def test_five_pairs_never_reach_five_percent_by_sign_flips():
    assert stats.sign_flip_p([np.ones(5)], [np.zeros(5)]) == pytest.approx(2 / 32)
    assert stats.sign_flip_p([np.ones(20)], [np.zeros(20)]) < 1e-3


@given(pairs)
def test_probability_of_improvement_is_mann_whitneys_u_over_all_comparisons(pair):
    a, b = map(np.array, pair)
    u = independent.mannwhitneyu(a, b).statistic / len(a) / len(b)
    mine = stats.probability_of_improvement([a], [b])
    assert mine.value == pytest.approx(u)
    assert 0 <= mine.low <= mine.value <= mine.high <= 1


def test_winning_every_comparison_keeps_an_interval():
    three = stats.probability_of_improvement([[2.0, 3.0, 4.0]], [[0.0, 1.0, 1.5]])
    twenty = stats.probability_of_improvement([np.arange(20.0) + 50], [np.arange(20.0)])
    assert three.value == 1 and three.low < 0.5
    assert twenty.value == 1 and twenty.low > 0.85


def test_probability_of_improvement_swaps_to_its_complement():
    a, b = [[0.1, 0.5, 0.7, 0.2]], [[0.4, 0.1, 0.6, 0.2]]
    forth, back = stats.probability_of_improvement(a, b), stats.probability_of_improvement(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((1 - back.value, 1 - back.high, 1 - back.low))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_over_bonferroni(p_values):
    """Closure principle: reject i iff every intersection hypothesis that contains i is rejected."""
    indices = range(len(p_values))
    subsets = [s for size in range(1, len(p_values) + 1) for s in combinations(indices, size)]
    closed = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in indices]
    assert stats.holm(p_values) == pytest.approx(closed)


def test_holm_leaves_out_tests_that_were_not_made():
    assert stats.holm([0.01, float("nan"), 0.04])[::2] == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize("comparisons", [1, 3])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_a_difference_of_the_smallest_significant_size_has_p_exactly_at_the_level(seeds, comparisons):
    noise = np.random.default_rng(seeds).normal(size=seeds)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    needed = stats.smallest_significant(0.3, seeds, comparisons=comparisons)
    difference = stats.paired_difference([needed + 0.3 * noise], [np.zeros(seeds)])
    assert difference.p * comparisons == pytest.approx(0.05)


def test_power_without_an_effect_is_the_level():
    assert stats.power(1e-12, 1.0, 7) == pytest.approx(0.05, abs=1e-6)


def test_power_matches_simulated_t_tests():
    data = np.random.default_rng(0).normal(0.7, 1.0, (20_000, 8))
    simulated = (independent.ttest_1samp(data, 0, axis=1).pvalue < 0.05).mean()
    assert stats.power(0.7, 1.0, 8) == pytest.approx(simulated, abs=0.012)


def test_power_of_many_seeds_tends_to_the_normal_formula():
    z = independent.norm
    assert stats.power(0.1, 1.0, 900) == pytest.approx(z.sf(1.959964 - 3) + z.cdf(-1.959964 - 3), abs=2e-3)


def test_seeds_needed_is_the_first_number_with_enough_power():
    needed = stats.seeds_needed(0.5, 0.6)
    assert stats.power(0.5, 0.6, needed) >= 0.8 > stats.power(0.5, 0.6, needed - 1)
    assert stats.seeds_needed(1e-6, 1.0) == 1001


@pytest.mark.parametrize("bad", [[], [[]], [[1.0, float("nan")]]])
def test_scores_that_cannot_be_used_are_named(bad):
    with pytest.raises(ValueError, match="finite"):
        stats.iqm(bad)


def test_unpaired_arms_are_refused():
    with pytest.raises(ValueError, match="same seeds"):
        stats.paired_difference([[1.0, 2.0]], [[1.0, 2.0, 3.0]])
