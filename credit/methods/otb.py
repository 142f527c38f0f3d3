"""The optimal token baseline: what the others of the group will still earn, weighted by how much each of them has decided so far.

    A[b,t] = G[b,t] - sum_j G[j,t] (W[j,t] + eps) / sum_j (W[j,t] + eps),   over the other scorable rows j of b's group
    W[j,t] = sum_{s<=t} |score[j,s]|^2,   |score[j,s]|^2 = 1 - 2 pi[j,s] + sum_v pi_v[j,s]^2

G is the return-to-go. W is the squared norm of the gradient of the log-prob of what row j has written, in its logits: rows whose
writing was decided by chance move the policy most, so their returns are worth predicting best. Leaving row b out keeps the
direction unbiased, since neither the others' rewards nor their weights know of it.
Source: verl, its page otb.md and core_algos.py (`optimal_token_baseline`, `tir_optimal_token_baseline`), which leave b in, and
rows that are over at t out. Here a row that is over keeps its W and its G, so that the last row of a group has somebody to be
compared with.

Degenerate cases: equal W of all others -> `leave_one_out` with `broadcast`. A group with one scorable row gets 0, and so do rows
that agree with all others. Unscorable rows get 0 and are nobody's baseline. Masked tokens: set to 0 by `Strategy`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.declare import declares
from credit.reduce import group_index, sum_by_group


@declares(unbiased=True, weight_class="none", row_constant=False, source="verl, otb.md; the row itself left out")
def optimal_token(
    token_rewards_BT: Tensor,
    advantages_B: Tensor,
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    scoring_logps_BT: Tensor,
    scoring_sum_sq_BT: Tensor,
    eps: float = 0.01,
) -> Tensor:
    """A[b,t] = G - the others' G, weighted by their energy W up to the same position. Combine with `baseline: none`.

    Args:
        eps: added to every W; rows that have decided next to nothing are averaged plainly instead of by rounding errors.
    """
    energy_BT = 1 - 2 * scoring_logps_BT.exp() + scoring_sum_sq_BT
    spent_BT = energy_BT.clamp(min=0).masked_fill(~mask_BT, 0.0).to(token_rewards_BT.dtype).cumsum(dim=1)
    returns_BT = _returns(token_rewards_BT, advantages_B, mask_BT)
    return _against_others(returns_BT, spent_BT + eps, ~rewards_B.isnan(), group_B)


@declares(
    unbiased=True,
    weight_class="none",
    row_constant=False,
    source="verl, tir_optimal_token_baseline; the row itself left out",
)
def optimal_token_turns(
    token_rewards_BT: Tensor,
    advantages_B: Tensor,
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    scoring_logps_BT: Tensor,
    scoring_sum_sq_BT: Tensor,
    eps: float = 0.01,
) -> Tensor:
    """`optimal_token` for texts that others write into: rows are compared after the same number of tokens of their own, tool text
    not counted. Without such text the two are one.

    Args:
        eps: as of `optimal_token`.
    """
    order_BT = (~mask_BT).to(torch.uint8).argsort(dim=1, stable=True)  # own tokens first
    packed = [
        each_BT.gather(1, order_BT) for each_BT in (token_rewards_BT, mask_BT, scoring_logps_BT, scoring_sum_sq_BT)
    ]
    rewards_BT, own_BT, logps_BT, sum_sq_BT = packed
    credit_BT = optimal_token(rewards_BT, advantages_B, rewards_B, group_B, own_BT, logps_BT, sum_sq_BT, eps)
    return torch.zeros_like(credit_BT).scatter(1, order_BT, credit_BT)


def _returns(token_rewards_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T) return-to-go, after the last learning token as at it; a row without learning tokens: its reward."""
    to_go_BT = token_rewards_BT.flip(1).cumsum(1).flip(1)
    positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B1 = (mask_BT * positions_T).amax(dim=1, keepdim=True)
    held_BT = to_go_BT.gather(1, torch.minimum(positions_T, last_B1))
    return torch.where(mask_BT.any(dim=1, keepdim=True), held_BT, advantages_B[:, None])


def _against_others(returns_BT: Tensor, weights_BT: Tensor, scorable_B: Tensor, group_B: Tensor) -> Tensor:
    """(B, T) each return less the weighted mean of the other scorable rows of its group."""
    index_B, groups = group_index(group_B)
    scorable_B1 = scorable_B[:, None]
    weights_BT = weights_BT * scorable_B1
    # Measured from the smallest of the group: rows that agree give exactly 0.
    origin = returns_BT.new_full((groups, returns_BT.shape[1]), torch.inf)
    worth_BT = returns_BT.masked_fill(~scorable_B1, torch.inf)
    origin_BT = origin.scatter_reduce(0, index_B[:, None].expand_as(worth_BT), worth_BT, "amin")[index_B]
    above_BT = (returns_BT - origin_BT).masked_fill(~scorable_B1, 0.0)
    others_BT = sum_by_group(weights_BT, index_B, groups) - weights_BT
    theirs_BT = sum_by_group(weights_BT * above_BT, index_B, groups) - weights_BT * above_BT
    count_B1 = sum_by_group(scorable_B1.to(returns_BT.dtype), index_B, groups)
    credit_BT = above_BT - theirs_BT / torch.where(others_BT > 0, others_BT, torch.ones_like(others_BT))
    return torch.where((count_B1 > 1) & scorable_B1, credit_BT, torch.zeros_like(credit_BT))
