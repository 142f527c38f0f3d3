"""Rewards by token that nobody gave: beta log(pi / pi_ref), what a policy has been moved by from where it started.

A policy that maximises reward under a KL penalty is the reference times exp(Q / beta), so its log-ratio is a reward by token.
Whether the policy at hand is such a one is another matter: what it drifted by, for whatever reason, counts as reward too. The
cards say what that costs.

Tool text has no log-prob of the policy's: sums run over a row's own tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.declare import declares
from credit.reduce import group_count, group_index, group_sum, sum_by_group


def implicit_rewards(logps_BT: Tensor, ref_logps_BT: Tensor, learning_BT: Tensor, beta: float) -> Tensor:
    """(B, T) beta (logps - ref_logps) at learning tokens, 0 elsewhere."""
    return (beta * (logps_BT - ref_logps_BT)).masked_fill(~learning_BT, 0.0)


@declares(unbiased=False, weight_class="none", row_constant=False, source="SPRO, arXiv 2507.01551")
def masked_step(
    advantages_B: Tensor,
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    scoring_logps_BT: Tensor,
    ref_logps_BT: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """SPRO: A[b,t] = A[b] + C[b,t] - mean_j C[j,t], over the scorable rows j of the group that write a token at t; C[b,t] is the sum
    of beta log(pi / pi_ref) up to and with t ("cumulative process reward").

    Where no other row of the group writes at t, the second part is 0. The paper itself could not be read when this was written: the
    formula is that of its abstract and of second-hand descriptions, and `beta` is a choice of ours.

    Args:
        beta: reward for each nat that the policy has come from its start.
    """
    learning_BT = mask_BT & ~rewards_B.isnan()[:, None]
    gained_BT = implicit_rewards(scoring_logps_BT, ref_logps_BT, learning_BT, beta).to(advantages_B.dtype).cumsum(1)
    index_B, groups = group_index(group_B)
    there_BT = sum_by_group(learning_BT.to(gained_BT.dtype), index_B, groups)
    sums_BT = sum_by_group(gained_BT.masked_fill(~learning_BT, 0.0), index_B, groups)
    step_BT = (gained_BT - sums_BT / there_BT.clamp(min=1)).masked_fill(there_BT < 2, 0.0)
    return advantages_B[:, None] + step_BT


@declares(unbiased=False, weight_class="none", row_constant=False, source="PRIME, arXiv 2502.01456; its code")
def process_rewards(
    advantages_B: Tensor,
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    lengths_B: Tensor,
    reward_model_logps_BT: Tensor,
    ref_logps_BT: Tensor,
    beta: float = 0.05,
    share: float = 1.0,
) -> Tensor:
    """PRIME: A[b,t] = A[b] + share sum_{s>=t} (r[b,s] - mean_{j != b} mean_s r[j,s]), with r = beta log(p / p_start) and p that of an
    implicit reward model: the policy itself, or with credit/signals=reward_model one that learns. Use a baseline that leaves the row
    out.

    PRIME whitens the sum, which couples the whole batch; that is left out. A row with nobody to be compared with gets A[b] alone.

    Args:
        beta: how much of the log-ratio counts as reward.
        share: how much of that joins the outcome.
    """
    scorable_B = ~rewards_B.isnan()
    learning_BT = mask_BT & scorable_B[:, None]
    given_BT = implicit_rewards(reward_model_logps_BT, ref_logps_BT, learning_BT, beta).to(advantages_B.dtype)
    means_B = (given_BT.sum(dim=1) / lengths_B.clamp(min=1)).masked_fill(~scorable_B, torch.nan)
    count_B = group_count(means_B, group_B)
    others_B = (group_sum(means_B, group_B) - means_B.nan_to_num()) / (count_B - 1).clamp(min=1)
    centred_BT = (given_BT - others_B[:, None]).masked_fill(~learning_BT, 0.0)
    to_go_BT = centred_BT.flip(1).cumsum(1).flip(1).masked_fill(count_B[:, None] < 2, 0.0)
    return advantages_B[:, None] + share * to_go_BT
