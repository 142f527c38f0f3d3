"""What the odd rows get: the list at the head of credit/reduce.py, line by line."""

from __future__ import annotations

import pytest
import torch

from credit import baseline, spread, weight
from credit.batch import Rollout
from credit.strategy import Strategy

BASELINES = [baseline.none, baseline.group_mean, baseline.group_zscore, baseline.leave_one_out, baseline.batch_zscore]
WEIGHTS = [weight.token_mean, weight.seq_mean, weight.constant, weight.seq_sum, weight.length_power]
nan = float("nan")


def score(rewards, group, mask, base=baseline.group_zscore, measure=weight.token_mean):
    rollout = Rollout(torch.tensor(rewards), torch.tensor(group), torch.tensor(mask).bool(), max_length=4)
    return Strategy(weight=measure, baseline=base, spread=spread.broadcast).score(rollout)


@pytest.mark.parametrize("base", BASELINES)
def test_an_unscorable_row_has_no_advantage_and_moves_no_statistic(base):
    mask = [[1, 1]] * 4
    with_it = score([1.0, nan, 0.0, 0.5], [0, 0, 0, 0], mask, base).advantages_B
    without = score([1.0, 0.0, 0.5], [0, 0, 0], mask[:3], base).advantages_B
    assert with_it[1] == 0
    torch.testing.assert_close(with_it[[0, 2, 3]], without)


def test_an_unscorable_row_still_counts_in_b():
    assert score([nan, 1.0], [0, 0], [[1, 0], [1, 0]], measure=weight.seq_sum).weights_BT[1, 0] == 0.5


@pytest.mark.parametrize("base", [baseline.group_mean, baseline.group_zscore, baseline.leave_one_out])
@pytest.mark.parametrize("rewards", [[0.7, 0.1, 0.3], [0.7, nan, nan]])
def test_a_group_of_one_scorable_row_gives_no_gradient(base, rewards):
    group = [0, 1, 2] if rewards[1] == 0.1 else [0, 0, 0]
    assert not score(rewards, group, [[1]] * 3, base).advantages_B.any()


@pytest.mark.parametrize("base", BASELINES[1:])
@pytest.mark.parametrize("value", [0.1, 0.2, 1 / 3, 1e6 + 0.1])
def test_equal_rewards_give_exactly_zero_not_amplified_rounding(base, value):
    assert not score([value] * 7, [0] * 7, [[1]] * 7, base).advantages_B.any()


@pytest.mark.parametrize("measure", WEIGHTS)
def test_a_fully_masked_row_has_weight_zero_and_nothing_is_nan(measure):
    credit = score([1.0, 0.0], [0, 0], [[0, 0], [1, 1]], measure=measure)
    assert not credit.weights_BT[0].any() and not credit.advantages_BT[0].any()
    assert credit.weights_BT.isfinite().all() and (credit.weights_BT[1] > 0).all()


def test_the_reward_of_a_fully_masked_row_still_counts_in_its_group():
    assert score([1.0, 0.0], [0, 0], [[0, 0], [1, 1]], baseline.group_mean).advantages_B[1] == -0.5


@pytest.mark.parametrize("measure", WEIGHTS)
def test_a_batch_without_tokens_has_no_weight(measure):
    assert not score([1.0, 0.0], [0, 0], [[0, 0], [0, 0]], measure=measure).weights_BT.any()
