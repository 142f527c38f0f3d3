"""Credit by entropy: where the policy was undecided when it sampled, over the group or over the whole batch.

`gtpo` and `grpo_s` shape the rewards of a group by entropy. With S the rows of the group whose reward is at least `success`, F the
others, n and m how many of a set are still writing at t (in `grpo_s`: how many there are),
    r[b,t] =   a1 + a2 n_t H[b,t] / sum_{k in S} H[k,t]              in S: an undecided token that led to success gets more
    r[b,t] = - a1 - a2 m_t (1/H[b,t]) / sum_{k in F} (1/H[k,t])      in F: a token written with confidence is blamed more
    A = (r - mean) / (std + eps)                                     over all tokens (rows) of S, and of F, of the group
Source: GTPO and GRPO-S, arXiv 2508.04349, equations 3, 5 and 6, as public replications have them. Each set is centred on itself: a1
cancels, so there is no setting for it, and success is not compared with failure. See the bias on their cards.

Odd cases: a set in which all shaped rewards are equal (one row, say) gets 0. Unscorable rows belong to no set and get 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from credit.declare import declares
from credit.reduce import group_index, sum_by_group

_FLAT = 1e-6  # a set whose shaped rewards differ less is flat; what they differ by is rounding


@declares(unbiased=False, weight_class="group", row_constant=False, source="GTPO, arXiv 2508.04349, equations 3, 5, 6")
def gtpo(
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    scoring_entropies_BT: Tensor,
    success: float = 0.5,
    bonus: float = 0.1,
    floor: float = 0.01,
    eps: float = 1e-4,
) -> Tensor:
    """GTPO: rewards by token, shaped by the share that the token's entropy has in its set at its position. Brings its own baseline:
    combine with `baseline: none`.

    Args:
        success: a row whose reward is at least that is a success.
        bonus: a2; only its size beside eps matters.
        floor: entropies below count as this, nats; rounding would decide on their inverse.
        eps: added to the standard deviation.
    """
    learning_BT = mask_BT & ~rewards_B.isnan()[:, None]
    entropies_BT = scoring_entropies_BT.double().clamp(min=floor)
    won_B = rewards_B >= success
    index_B, groups = group_index(group_B)
    set_B, sets = 2 * index_B + won_B, 2 * groups
    worth_BT = torch.where(won_B[:, None], entropies_BT, 1 / entropies_BT).masked_fill(~learning_BT, 0.0)
    there_BT = sum_by_group(learning_BT.to(worth_BT.dtype), set_B, sets)
    share_BT = there_BT * worth_BT / sum_by_group(worth_BT, set_B, sets).clamp(min=1e-12)
    shaped_BT = bonus * share_BT * torch.where(won_B, 1.0, -1.0).double()[:, None]
    return _standard(shaped_BT, learning_BT, set_B, sets, eps).to(rewards_B.dtype)


@declares(unbiased=False, weight_class="future", row_constant=True, source="GRPO-S, arXiv 2508.04349")
def grpo_s(
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    lengths_B: Tensor,
    scoring_entropies_BT: Tensor,
    success: float = 0.5,
    bonus: float = 0.1,
    floor: float = 0.01,
    eps: float = 1e-4,
) -> Tensor:
    """GRPO-S: the same with the mean entropy of each row, one advantage a row. Rows without tokens count as entropy `floor`.

    Args:
        success, bonus, floor, eps: as of `gtpo`.
    """
    seen_BT = scoring_entropies_BT.double().masked_fill(~mask_BT, 0.0)
    mean_B1 = (seen_BT.sum(dim=1) / lengths_B.clamp(min=1))[:, None]
    return gtpo(rewards_B, group_B, torch.ones_like(mean_B1).bool(), mean_B1, success, bonus, floor, eps)[:, 0]


@declares(unbiased=False, weight_class="batch", row_constant=False, source="80/20, arXiv 2506.01939, equation 6")
def top_entropy(mask_BT: Tensor, lengths_B: Tensor, scoring_entropies_BT: Tensor, share: float = 0.2) -> Tensor:
    """w = 1 / sum_b L_b on the `share` of learning tokens with the largest entropy in the whole batch, over all ranks; else 0.

    The threshold is that of the batch and so the same however it is cut, unlike TRL's `top_entropy_quantile`. Tokens within 1e-4
    nats of it belong to it: equal prefixes have equal entropies up to rounding.

    Args:
        share: from 0 to 1; 1 is `token_mean`.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share={share} must lie above 0 and be at most 1.")
    learning = scoring_entropies_BT[mask_BT]
    if not len(learning):
        return torch.zeros_like(scoring_entropies_BT)
    kept = math.ceil(share * len(learning))
    threshold = learning.topk(kept).values[-1] - 1e-4
    return (mask_BT & (scoring_entropies_BT >= threshold)) / lengths_B.sum().clamp(min=1)


def _standard(values_BT: Tensor, learning_BT: Tensor, set_B: Tensor, sets: int, eps: float) -> Tensor:
    """(B, T) (value - mean) / (std + eps) over the learning tokens of each set; 0 where the set is flat."""

    def total(each_BT: Tensor) -> Tensor:
        sums_B1 = each_BT.masked_fill(~learning_BT, 0.0).sum(dim=1, keepdim=True)
        return sum_by_group(sums_B1, set_B, sets)

    count_B1 = total(torch.ones_like(values_BT))
    centred_BT = values_BT - total(values_BT) / count_B1.clamp(min=1)
    std_B1 = (total(centred_BT.square()) / (count_B1 - 1).clamp(min=1)).sqrt()
    return (centred_BT / (std_B1 + eps)).masked_fill((std_B1 <= _FLAT) | ~learning_BT, 0.0)
