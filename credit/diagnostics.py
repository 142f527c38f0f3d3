"""What a strategy did to a batch, in a few numbers. Explained for users in docs/compare/metrics.md.

Shapes: J turns of the row that has most.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from credit.batch import Credit, Rollout
from credit.reduce import group_index
from credit.turns.index import spread_over_turns, sum_by_turn, turn_counts, turn_index


def diagnose(rollout: Rollout, credit: Credit) -> dict[str, float]:
    """Scalars of one generation batch, all ranks. NaN where undefined (TRL leaves NaN out of its averages).

    mass               total weight, sum w
    effective_tokens   (sum |A w|)^2 / sum (A w)^2: how many tokens carry the update
    length_correlation Pearson correlation of row length with the row's summed credit, sum_t A w
    zero_groups        share of prompt groups in which every advantage is 0 (nothing to learn); under `baseline: none`, where an
                       advantage is the reward itself, of those whose scorable rewards are all the same (or none is)
    turns              mean number of turns of a row; left out where no row has more than one
    idle_turns         share of sum |A w| on turns that earned nothing; left out unless the strategy reads what turns earn
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
    found = dict(zip(names, numbers.tolist(), strict=True)) | _of_turns(rollout, update_BT.abs())
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


def _of_turns(rollout: Rollout, push_BT: Tensor) -> dict[str, float]:
    turn_BT = turn_index(rollout.mask_BT)
    counts_B = turn_counts(turn_BT)
    if not bool((counts_B > 1).any()):
        return {}
    found = {"turns": float(counts_B.double().mean())}
    if "turn_rewards_BT" in rollout.provided:
        earned_BJ = sum_by_turn(rollout.provided["turn_rewards_BT"], turn_BT).abs()
        # What the last turn gets so that a row sums to its reward may be the rounding of float32.
        idle_BJ = (earned_BJ <= 1e-6 * earned_BJ.amax()).to(push_BT.dtype)
        found["idle_turns"] = float((push_BT * spread_over_turns(idle_BJ, turn_BT)).sum() / push_BT.sum())
    return found


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
