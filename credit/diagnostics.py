"""What a strategy did to a batch, in a few numbers. Explained for users in docs/compare/metrics.md."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from credit.batch import Credit, Rollout
from credit.reduce import group_index
from credit.turns.index import turn_index
from credit.turns.measures import measure_turns


def diagnose(rollout: Rollout, credit: Credit, earned_BT: Tensor | None = None) -> dict[str, float]:
    """Scalars of one generation batch, all ranks. NaN where undefined (TRL leaves NaN out of its averages).

    earned_BT: what turns earned, where that is known and the strategy does not read it; else what it reads counts.

    mass               total weight, sum w
    effective_tokens   (sum |A w|)^2 / sum (A w)^2: how many tokens carry the update
    length_correlation Pearson correlation of row length with the row's summed credit, sum_t A w
    zero_groups        share of prompt groups in which every advantage is 0 (nothing to learn); under `baseline: none`, where an
                       advantage is the reward itself, of those whose scorable rewards are all the same (or none is)
    turns              mean number of turns of a row; left out where no row has more than one and nobody says what turns earn
    idle_turns         share of sum |A w| on turns that earned nothing; left out where nobody says what turns earn
    turn_<k>           share of sum |A w| on turn 01, 02, turns 03_04, 05_08, 09_16, 17_up; left out like `turns`, and where no row
                       has such a turn
    earned_<k>         what a scored row earned there, in the mean; left out like `idle_turns`
    mass_len_<q>       share of sum |A w| on rows of length up to q/4 of L_max (and above (q-1)/4), q = 1..4
    A live spread is not known yet at scoring time; the baseline's advantage stands in for it. A live weight is taken as the policy
    that sampled has it, where its statistics are collected (under `unit_mass`, or where a member asks for them); else what
    depends on it is NaN, and the mass is known in the loss only, as `live_mass`.
    """
    weights_BT = credit.weights_BT if credit.expected_BT is None else credit.expected_BT
    advantages_BT = credit.advantages_BT
    if advantages_BT is None:
        advantages_BT = credit.advantages_B[:, None].expand_as(weights_BT)
    update_BT = advantages_BT * weights_BT
    lengths_B = rollout.lengths_B.to(update_BT.dtype)
    size_B = update_BT.abs().sum(dim=1)
    quarter_B = (lengths_B * 4 / rollout.max_length).ceil().clamp(1, 4)
    index_B, groups = group_index(rollout.group_B)
    empty_P = _is_flat(credit.advantages_B, rollout.rewards_B, index_B, groups)
    numbers = torch.stack(
        [
            weights_BT.sum(),
            size_B.sum().square() / update_BT.square().sum(),
            correlation(lengths_B, update_BT.sum(dim=1)),
            empty_P.to(update_BT.dtype).mean(),
            *(size_B[quarter_B == q].sum() / size_B.sum() for q in (1, 2, 3, 4)),
        ]
    )
    names = ("mass", "effective_tokens", "length_correlation", "zero_groups", *(f"mass_len_{q}" for q in (1, 2, 3, 4)))
    found = dict(zip(names, numbers.tolist(), strict=True))
    earned_BT = rollout.provided.get("turn_rewards_BT", earned_BT)
    found |= measure_turns(update_BT.abs(), turn_index(rollout.mask_BT), rollout.rewards_B, earned_BT)
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


def _is_flat(advantages_B: Tensor, rewards_B: Tensor, index_B: Tensor, groups: int) -> Tensor:
    """(P,) bool: the group offers nothing to compare, see `zero_groups`."""
    scorable_B = ~rewards_B.isnan()
    values_B, start = advantages_B, advantages_B.new_zeros(groups)
    if not torch.equal(advantages_B, rewards_B.nan_to_num()):
        return start.scatter_reduce_(0, index_B, values_B.abs(), "amax") == 0
    values_B, index_B = values_B[scorable_B], index_B[scorable_B]
    lowest_P, highest_P = (
        start.scatter_reduce(0, index_B, values_B, which, include_self=False) for which in ("amin", "amax")
    )
    return lowest_P == highest_P


def correlation(x_B: Tensor, y_B: Tensor) -> Tensor:
    """0-d Pearson correlation; NaN when either is constant."""
    x_B, y_B = x_B - x_B.mean(), y_B - y_B.mean()
    return (x_B * y_B).sum() / (x_B.square().sum() * y_B.square().sum()).sqrt()
