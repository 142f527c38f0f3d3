"""Rollouts for tests: hypothesis strategies, and the same rollout cut, padded and reordered."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from credit.batch import Rollout

MAX_LENGTH = 9


@st.composite
def rollouts(draw, unscorable=True, empty=True):
    """Rollouts in float64: ragged lengths, equal and unequal rewards, unscorable rows, empty rows, shuffled groups."""
    group_count, size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rows = group_count * size
    values = st.sampled_from([0.0, 0.2, 1.0, -1.5, 0.37]) | st.floats(-3, 3).map(lambda x: round(x, 3))
    rewards = draw(st.lists(values | st.just(float("nan")) if unscorable else values, min_size=rows, max_size=rows))
    lengths = draw(st.lists(st.integers(0 if empty else 1, MAX_LENGTH), min_size=rows, max_size=rows))
    group = draw(st.permutations([7 * (b // size) - 3 for b in range(rows)]))
    holes = draw(st.lists(st.booleans(), min_size=rows * MAX_LENGTH, max_size=rows * MAX_LENGTH))
    mask_BT = torch.arange(MAX_LENGTH)[None] < torch.tensor(lengths)[:, None]
    if draw(st.booleans()):  # tool text in the middle of a row
        mask_BT &= torch.tensor(holes).view(rows, MAX_LENGTH)
    return Rollout(
        rewards_B=torch.tensor(rewards, dtype=torch.float64),
        group_B=torch.tensor(group),
        mask_BT=mask_BT,
        max_length=MAX_LENGTH,
        token_ids_BT=torch.arange(rows * MAX_LENGTH).view(rows, MAX_LENGTH) % 5,
        rewards_BK=torch.tensor(rewards, dtype=torch.float64)[:, None],
        reward_weights_K=torch.ones(1, dtype=torch.float64),
        span_rewards_BT=torch.zeros(rows, MAX_LENGTH, dtype=torch.float64),
    )


def reordered(rollout: Rollout, order: torch.Tensor) -> Rollout:
    """The same rows in another order."""
    return _mapped(rollout, lambda value: value[order])


def padded(rollout: Rollout, extra: int) -> Rollout:
    """The same rows with `extra` more columns of padding."""

    def pad(value):
        return torch.cat([value, value.new_zeros(value.shape[0], extra)], dim=1)

    return _mapped(rollout, lambda value: value, pad)


def _mapped(rollout: Rollout, rows, tokens=None) -> Rollout:
    values = {}
    for name, value in rollout.__dict__.items():
        if name.endswith("_BT") and value is not None:
            values[name] = (tokens or rows)(value)
        elif isinstance(value, torch.Tensor) and name != "reward_weights_K":
            values[name] = rows(value)
        else:
            values[name] = value
    return Rollout(**values)
