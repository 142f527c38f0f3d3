"""What theory says about credit strategies, found again by enumeration (METHODS: rules that decide bias)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from credit import baseline, spread, weight
from credit.strategy import Strategy
from lab.exact.quantities import exact
from lab.exact.worlds import levels
from lab.measure.critics import CRITICS
from lab.measure.declarations import enumerated
from lab.measure.estimate import Budget, measure, rloo

ROUNDING = 1e-9
WORLDS = ["tiny_turn", "filler", "poison", "two_turn", "shares", "tiny_turn:transformer"]


def reward_minus_value(rewards_B, values_BT):
    return rewards_B[:, None] - values_BT


def named(weights, baselines, spreads=spread.broadcast) -> Strategy:
    return Strategy(weights, baselines, spreads)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("size", [2, 4])
def test_leave_one_out_has_the_true_gradient_itself(world, size):
    learner = enumerated(world)
    found = measure(learner, rloo(), size)
    torch.testing.assert_close(found.mean_D, learner.reward_gradient, rtol=0, atol=1e-12)
    assert found.exact and found["relative_bias"] < ROUNDING and abs(found["cosine"] - 1) < ROUNDING


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("size", [2, 4])
def test_the_group_mean_only_scales_the_gradient_by_g_minus_1_over_g(world, size):
    found = measure(enumerated(world), named(weight.seq_sum, baseline.group_mean), size)
    assert abs(found["scale"] - (size - 1) / size) < ROUNDING and found["relative_bias"] < ROUNDING


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("critic", CRITICS)
def test_reward_minus_value_is_unbiased_whatever_the_critic(world, critic):
    found = measure(enumerated(world), named(weight.seq_sum, baseline.none, reward_minus_value), 4, critic=critic)
    assert found.exact and found["relative_bias"] < ROUNDING and abs(found["scale"] - 1) < ROUNDING


def test_dividing_by_length_bends_the_direction_and_shortens_successes_where_length_does_not_matter():
    learner = enumerated("filler")
    found = measure(learner, named(weight.seq_mean, baseline.group_mean), 4)
    assert found["relative_bias"] > 0.1
    assert abs(found["true_success_push"]) < 1e-12 and found["success_push"] < -0.02


@pytest.mark.parametrize("world", ["delayed_key", "shares", "all_or_nothing"])
def test_dividing_by_length_is_harmless_where_all_texts_are_equally_long(world):
    assert measure(enumerated(world), named(weight.seq_mean, baseline.group_mean), 4)["relative_bias"] < ROUNDING


def test_z_scores_are_harmless_within_one_prompt_of_binary_reward_and_biased_across_prompts():
    zscore = named(weight.seq_sum, baseline.group_zscore)
    one_prompt = exact(replace(levels(), prompts=("hard",)))
    assert measure(one_prompt, zscore, 16)["relative_bias"] < ROUNDING
    across = [measure(enumerated("levels"), zscore, size)["relative_bias"] for size in (4, 8, 16)]
    assert across[0] < across[1] < across[2] and across[2] > 0.05


def test_z_scores_weigh_hard_prompts_more_than_success_does():
    learner = enumerated("levels")
    zscore = measure(learner, named(weight.seq_sum, baseline.group_zscore), 16)
    hard = slice(2 * learner.theta.numel() // 3, None)
    share = zscore.mean_D[hard].norm() / zscore.mean_D.norm()
    true_share = learner.reward_gradient[hard].norm() / learner.reward_gradient.norm()
    assert share > 1.3 * true_share


@pytest.mark.parametrize("world", ["tiny", "filler", "poison", "brackets"])
def test_a_length_weighted_baseline_is_biased_with_self_and_unbiased_without(world):
    with_self = measure(enumerated(world), named(weight.seq_sum, baseline.length_weighted), 4)
    without = measure(enumerated(world), named(weight.seq_sum, baseline.length_weighted_loo), 4)
    assert with_self["relative_bias"] > 0.01 and without["relative_bias"] < ROUNDING


def test_token_mean_is_biased_by_one_over_the_batch():
    strategy = named(weight.token_mean, baseline.leave_one_out)
    budget = Budget(calls=5000)
    biases = [measure(enumerated("tiny"), strategy, size, budget=budget)["relative_bias"] for size in (2, 3, 4)]
    assert biases[0] > 0.01
    # bias * B is nearly constant
    assert max(b * n for b, n in zip(biases, (2, 3, 4), strict=True)) < 1.6 * min(
        b * n for b, n in zip(biases, (2, 3, 4), strict=True)
    )


def test_where_the_reward_is_a_coin_a_future_dependent_weight_drifts_without_a_baseline():
    learner = enumerated("coin")
    assert measure(learner, named(weight.seq_mean, baseline.none), 4)["drift"] > 0.05
    for strategy in (named(weight.seq_mean, baseline.group_mean), named(weight.seq_sum, baseline.none)):
        found = measure(learner, strategy, 4)
        assert found["drift"] < ROUNDING and math.isnan(found["cosine"])


def test_the_ideal_advantage_and_nothing_else_ranks_tokens_perfectly():
    def ideal(values_BT, rewards_B, mask_BT):
        """Q - V in a world without chance, where Q is the next value, and the reward at the end."""
        after_BT = torch.cat([values_BT[:, 1:], torch.zeros_like(values_BT[:, :1])], dim=1)
        last_BT = torch.arange(mask_BT.shape[1]) == mask_BT.sum(dim=1, keepdim=True) - 1
        return torch.where(last_BT, rewards_B[:, None], after_BT) - values_BT

    found = measure(enumerated("poison"), named(weight.seq_sum, baseline.none, ideal), 4)
    assert abs(found["spearman"] - 1) < 1e-6 and abs(found["pearson"] - 1) < ROUNDING
    assert abs(found["key_share"] - 1) < ROUNDING and found["relative_bias"] < ROUNDING
    other = measure(enumerated("poison"), rloo(), 4)
    assert other["spearman"] < 0.95 and other["key_share"] < 0.9 and other["nsr"] > found["nsr"]


def test_the_gain_of_an_unbiased_direction_is_one_and_of_a_biased_one_less():
    learner = enumerated("filler")
    assert abs(measure(learner, rloo(), 4)["gain"] - 1) < ROUNDING
    assert measure(learner, named(weight.seq_mean, baseline.group_mean), 4)["gain"] < 0.995
