"""Numbers of an evaluation: pass@k without bias, intervals over prompts, differences on the same prompts, votes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainers.evaluation.estimates import mean_over_prompts, paired, pass_at
from trainers.evaluation.majority import majority
from trainers.evaluation.measures import Measure, differences, ks_for


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_mean_over_all_ways_to_take_k(passed, data):
    k = data.draw(st.integers(1, len(passed)))
    ways = [any(chosen) for chosen in combinations(passed, k)]
    assert pass_at(k, len(passed), sum(passed)) == pytest.approx(sum(ways) / len(ways))


def test_pass_at_k_has_no_bias_where_the_plug_in_has_one():
    p, n, k = 0.3, 5, 3
    chances = [stats.binom.pmf(c, n, p) for c in range(n + 1)]
    expected = sum(chance * pass_at(k, n, c) for c, chance in enumerate(chances))
    plug_in = sum(chance * (1 - (1 - c / n) ** k) for c, chance in enumerate(chances))
    assert expected == pytest.approx(1 - (1 - p) ** k) and abs(plug_in - expected) > 0.05


@pytest.mark.parametrize("k, n, passed", [(0, 4, 1), (5, 4, 1), (1, 4, 5)])
def test_pass_at_k_of_fewer_completions_is_refused(k, n, passed):
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at(k, n, passed)


def test_the_interval_is_students_over_prompts():
    values = np.random.default_rng(0).normal(size=12)
    found = mean_over_prompts(list(values))
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high)) and found.prompts == 12


def test_intervals_hold_what_they_promise_where_completions_of_a_prompt_are_alike():
    """Eight completions of each prompt that all agree: as one each. Over completions the interval would be far too short."""
    generator, truth, clustered, naive = np.random.default_rng(1), 0.4, 0, 0
    for _ in range(400):
        prompts = (generator.random(40) < truth).astype(float)
        found = mean_over_prompts(list(prompts), is_share=True)
        clustered += found.low <= truth <= found.high
        each = np.repeat(prompts, 8)
        low, high = stats.t.interval(0.95, len(each) - 1, each.mean(), stats.sem(each))
        naive += low <= truth <= high
    assert clustered / 400 > 0.92 and naive / 400 < 0.6


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_that_is_always_the_same_has_the_exact_interval(value):
    found = mean_over_prompts([value] * 30, is_share=True)
    exact = stats.binomtest(int(30 * value), 30).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=9))
def test_the_interval_of_a_share_stays_one(values):
    found = mean_over_prompts(values, is_share=True)
    assert found.low is None or 0 <= found.low <= found.value <= found.high <= 1


def test_where_prompts_give_no_interval_there_is_none():
    assert mean_over_prompts([]).value is None
    for values in ([0.3], [0.3, 0.3, 0.3]):
        found = mean_over_prompts(values)
        assert found.value == pytest.approx(0.3) and found.low is None and found.high is None


def test_a_difference_is_taken_prompt_by_prompt():
    theirs = {prompt: float(prompt) for prompt in range(6)}
    ours = {prompt: prompt + 0.1 * (prompt % 2) for prompt in range(1, 9)}
    found = paired(ours, theirs)
    low, high = stats.t.interval(0.95, 4, 0.06, stats.sem([0.1, 0, 0.1, 0, 0.1]))
    assert found.prompts == 5 and (found.low, found.value, found.high) == pytest.approx((low, 0.06, high))
    assert paired(theirs, theirs).value == 0


def test_the_interval_of_a_difference_of_shares_stays_a_difference_of_shares():
    ours, theirs = {0: 1.0, 1: 1.0, 2: 0.5}, dict.fromkeys(range(3), 0.0)
    assert paired(ours, theirs).high > 1 and paired(theirs, ours).low < -1
    assert differences({"pass@1": Measure(ours, True)}, {"pass@1": Measure(theirs, True)})["pass@1"].high == 1
    assert differences({"pass@1": Measure(theirs, True)}, {"pass@1": Measure(ours, True)})["pass@1"].low == -1
    assert differences({"length": Measure(ours)}, {"length": Measure(theirs)})["length"].high > 1


@pytest.mark.parametrize(
    "answers, passed, value",
    [
        (["4", "4.0", "5"], [1, 1, 0], 1.0),  # one answer, written in two ways
        (["5", "5", "4"], [0, 0, 1], 0.0),
        (["5", "4", None, None, None], [0, 1, 0, 0, 0], 0.5),  # a tie; without an answer there is no vote
        ([None, None], [0, 0], 0.0),
        (["x", "x", "4"], [0, 0, 1], 0.0),  # what cannot be compared is not one
    ],
)
def test_the_majority_is_that_of_the_tasks_own_equality(answers, passed, value):
    assert majority(answers, [bool(one) for one in passed], lambda a, b: float(a) == float(b)) == value


def test_ks_are_the_powers_of_two_and_n():
    assert [ks_for(n) for n in (1, 4, 6)] == [[1], [1, 2, 4], [1, 2, 4, 6]]
