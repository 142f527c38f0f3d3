"""Length-weighted baselines against their loop twins and their degenerate cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from credit.baseline import group_mean, leave_one_out, length_weighted, length_weighted_loo

rows = st.lists(
    st.tuples(st.one_of(st.just(math.nan), st.floats(-3, 3)), st.integers(0, 2), st.integers(0, 9)),
    min_size=1,
    max_size=12,
)


def tensors(rows):
    rewards, groups, lengths = zip(*rows, strict=True)
    return torch.tensor(rewards, dtype=torch.float64), torch.tensor(groups), torch.tensor(lengths)


def loop(rows, leave_out: bool) -> list[float]:
    result = []
    for b, (reward, group, _) in enumerate(rows):
        scorable = [(r, length) for r, g, length in rows if g == group and not math.isnan(r)]
        others = [
            (r, length)
            for j, (r, g, length) in enumerate(rows)
            if g == group and not math.isnan(r) and not (leave_out and j == b)
        ]
        total = sum(length for _, length in others)
        if math.isnan(reward) or (leave_out and total == 0):
            result.append(0.0)
        elif total == 0:
            result.append(reward - sum(r for r, _ in scorable) / len(scorable))
        else:
            result.append(reward - sum(r * length for r, length in others) / total)
    return result


@pytest.mark.parametrize(("member", "leave_out"), [(length_weighted, False), (length_weighted_loo, True)])
@settings(deadline=None)
@given(rows=rows)
def test_length_weighted_baselines_equal_their_loop_twins(member, leave_out, rows):
    expected = torch.tensor(loop(rows, leave_out), dtype=torch.float64)
    torch.testing.assert_close(member(*tensors(rows)), expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(rows=rows, length=st.integers(1, 5))
def test_equal_lengths_give_back_group_mean_and_leave_one_out(rows, length):
    rewards_B, group_B, lengths_B = tensors([(r, g, length) for r, g, _ in rows])
    for weighted, plain in ((length_weighted, group_mean), (length_weighted_loo, leave_one_out)):
        found, expected = weighted(rewards_B, group_B, lengths_B), plain(rewards_B, group_B)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(reward=st.floats(-3, 3), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_a_group_of_equal_rewards_gets_exactly_zero(reward, lengths):
    rewards_B, group_B, lengths_B = tensors([(reward, 0, length) for length in lengths])
    assert (length_weighted(rewards_B, group_B, lengths_B) == 0).all()
    assert (length_weighted_loo(rewards_B, group_B, lengths_B) == 0).all()
