"""Every baseline and weight against a loop that a reader can check by eye, in float64 to 1e-10."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given

from credit import baseline, spread, weight
from credit.strategy import Strategy
from support.exact.rollouts import MAX_LENGTH, padded, reordered, rollouts


def scored(rollout, base=baseline.none, measure=weight.seq_sum, **options):
    return Strategy(weight=measure, baseline=base, spread=spread.broadcast, **options).score(rollout)


def mean(values):
    return sum(values) / len(values) if values else 0.0


def std(values):
    return math.sqrt(sum((v - mean(values)) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def group_mean(reward, others, batch):
    return reward - mean([reward, *others])


def group_zscore(reward, others, batch):
    return (reward - mean([reward, *others])) / (std([reward, *others]) + 1e-4)


def leave_one_out(reward, others, batch):
    return reward - mean(others) if others else 0.0


def batch_zscore(reward, others, batch):
    return (reward - mean(batch)) / (std(batch) + 1e-4)


def group_mean_batch_std(reward, others, batch):
    return (reward - mean([reward, *others])) / (std(batch) + 1e-4)


def none(reward, others, batch):
    return reward


@pytest.mark.parametrize("loop", [none, group_mean, group_zscore, leave_one_out, batch_zscore, group_mean_batch_std])
@given(rollout=rollouts())
def test_a_baseline_is_its_formula_over_the_scorable_rows(loop, rollout):
    found_B = scored(rollout, getattr(baseline, loop.__name__)).advantages_B
    rewards, group = rollout.rewards_B.tolist(), rollout.group_B.tolist()
    batch = [r for r in rewards if not math.isnan(r)]
    for b, reward in enumerate(rewards):
        if math.isnan(reward):
            assert found_B[b] == 0
            continue
        others = [r for i, r in enumerate(rewards) if i != b and group[i] == group[b] and not math.isnan(r)]
        assert found_B[b].item() == pytest.approx(loop(reward, others, batch), abs=1e-10)


def token_mean(length, lengths):
    return 1 / sum(lengths)


def seq_mean(length, lengths):
    return 1 / (len(lengths) * length)


def constant(length, lengths):
    return 1 / (len(lengths) * MAX_LENGTH)


def seq_sum(length, lengths):
    return 1 / len(lengths)


def length_power(length, lengths, gamma=0.5):
    return length**-gamma / sum(n ** (1 - gamma) for n in lengths if n)


@pytest.mark.parametrize("loop", [token_mean, seq_mean, constant, seq_sum, length_power])
@given(rollout=rollouts())
def test_a_weight_is_its_formula_at_learning_tokens_and_zero_elsewhere(loop, rollout):
    found_BT = scored(rollout, measure=getattr(weight, loop.__name__)).weights_BT
    lengths = rollout.lengths_B.tolist()
    for b, row in enumerate(rollout.mask_BT.tolist()):
        for t, learns in enumerate(row):
            expected = loop(lengths[b], lengths) if learns else 0.0
            assert found_BT[b, t].item() == pytest.approx(expected, rel=1e-10)


@given(rollout=rollouts(empty=False))
def test_length_power_joins_token_mean_to_sequence_mean(rollout):
    if not rollout.mask_BT.any(dim=1).all():
        return
    zero = scored(rollout, measure=partial(weight.length_power, gamma=0.0)).weights_BT
    one = scored(rollout, measure=partial(weight.length_power, gamma=1.0)).weights_BT
    torch.testing.assert_close(zero, scored(rollout, measure=weight.token_mean).weights_BT, rtol=1e-12, atol=0)
    torch.testing.assert_close(one, scored(rollout, measure=weight.seq_mean).weights_BT, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["token_mean", "seq_mean", "constant", "seq_sum", "length_power"])
@given(rollout=rollouts())
def test_unit_mass_keeps_proportions_and_makes_the_total_one(name, rollout):
    measure = getattr(weight, name)
    plain, unit = (
        scored(rollout, measure=measure).weights_BT,
        scored(rollout, measure=measure, unit_mass=True).weights_BT,
    )
    assert unit.sum().item() == pytest.approx(1.0 if rollout.mask_BT.any() else 0.0)
    torch.testing.assert_close(unit * plain.sum(), plain, rtol=1e-10, atol=1e-15)


@given(rollout=rollouts())
def test_leave_one_out_is_the_group_mean_times_n_over_n_minus_one(rollout):
    loo, centred = scored(rollout, baseline.leave_one_out), scored(rollout, baseline.group_mean)
    counts = [
        sum(
            g == group and not math.isnan(r)
            for g, r in zip(rollout.group_B.tolist(), rollout.rewards_B.tolist(), strict=True)
        )
        for group in rollout.group_B.tolist()
    ]
    factor_B = torch.tensor([n / (n - 1) if n > 1 else 0.0 for n in counts], dtype=torch.float64)
    torch.testing.assert_close(loo.advantages_B, centred.advantages_B * factor_B, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("base", ["group_mean", "group_zscore", "leave_one_out", "batch_zscore"])
@given(rollout=rollouts())
def test_adding_a_constant_to_all_rewards_changes_nothing(base, rollout):
    shifted = type(rollout)(**{**rollout.__dict__, "rewards_B": rollout.rewards_B + 2.5})
    one, two = (scored(r, getattr(baseline, base)).advantages_B for r in (rollout, shifted))
    torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("base", ["none", "group_mean", "group_zscore", "leave_one_out", "batch_zscore"])
@pytest.mark.parametrize("measure", ["token_mean", "seq_mean", "constant", "seq_sum", "length_power"])
@given(rollout=rollouts())
def test_row_order_and_padding_are_immaterial(base, measure, rollout):
    plain = scored(rollout, getattr(baseline, base), getattr(weight, measure))
    order = torch.randperm(len(rollout.rewards_B), generator=torch.Generator().manual_seed(0))
    moved = scored(padded(reordered(rollout, order), 3), getattr(baseline, base), getattr(weight, measure))
    torch.testing.assert_close(moved.advantages_B, plain.advantages_B[order], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(moved.weights_BT[:, :-3], plain.weights_BT[order], rtol=1e-12, atol=0)
    assert not moved.weights_BT[:, -3:].any()
