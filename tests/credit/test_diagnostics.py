"""What is logged of a batch says what happened to it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given

from credit import Strategy, baseline, weight
from credit.batch import Rollout
from credit.diagnostics import diagnose
from support.exact.rollouts import rollouts


def batch(rewards: list[float], size: int) -> Rollout:
    rows = len(rewards)
    return Rollout(
        rewards_B=torch.tensor(rewards, dtype=torch.float64),
        rewards_BK=torch.tensor(rewards, dtype=torch.float64)[:, None],
        reward_weights_K=torch.ones(1, dtype=torch.float64),
        group_B=torch.arange(rows) // size,
        mask_BT=torch.ones(rows, 3, dtype=torch.bool),
        max_length=4,
    )


@pytest.mark.parametrize("member", [baseline.none, baseline.group_mean, baseline.group_zscore, baseline.leave_one_out])
def test_a_group_of_equal_rewards_has_nothing_to_compare_whatever_the_baseline(member):
    flat_and_not = batch([0.7, 0.7, 0.2, 0.9, 0.0, 0.0, math.nan, 0.4], size=2)
    found = diagnose(flat_and_not, Strategy(weight.constant, member).score(flat_and_not))
    assert found["zero_groups"] == 3 / 4  # the last one has a single scorable row


@given(rollouts())
def test_zero_groups_is_what_a_loop_counts(rollout):
    found = diagnose(rollout, Strategy(weight.constant, baseline.none).score(rollout))["zero_groups"]
    by_group = {}
    for group, reward in zip(rollout.group_B.tolist(), rollout.rewards_B.tolist(), strict=True):
        by_group.setdefault(group, []).extend([] if math.isnan(reward) else [reward])
    assert found == pytest.approx(sum(len(set(each)) <= 1 for each in by_group.values()) / len(by_group))


def test_turns_that_earned_nothing_but_rounding_are_idle():
    """Two turns a row, of which the last gets what is missing to the reward in float32."""
    mask_BT = torch.tensor([[True, False, True]] * 2)
    earned_BT = torch.tensor([[1 / 3, 0.0, 1e-8], [0.0, 0.0, 0.5]], dtype=torch.float64)
    made = {"turn_BT": torch.tensor([[0, -1, 1]] * 2), "turn_rewards_BT": earned_BT}
    rollout = Rollout(earned_BT.sum(dim=1), torch.zeros(2, dtype=torch.long), mask_BT, 4).with_provided(made)
    found = diagnose(rollout, Strategy(weight.constant, baseline.group_mean).score(rollout))
    assert found["turns"] == 2 and found["idle_turns"] == pytest.approx(0.5)
