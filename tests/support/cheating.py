"""Strategies that lie about themselves: what the lab is for."""

from __future__ import annotations

from credit.declare import declares


@declares(unbiased=True, weight_class="none", row_constant=True, source="wishful thinking")
def peeking(rewards_B, group_B, lengths_B):
    """A = R - group mean times own length over the longest: a baseline that looks at the future of its own row."""
    from credit.reduce import group_count, group_sum

    mean_B = group_sum(rewards_B, group_B) / group_count(rewards_B, group_B).clamp(min=1)
    return rewards_B - mean_B * lengths_B / lengths_B.max().clamp(min=1)


@declares(unbiased=True, weight_class="none", row_constant=False, source="wishful thinking")
def hindsight(advantages_B, mask_BT, token_ids_BT):
    """A[b,t] = A[b], doubled where the next token is token 0: each token's credit depends on the one after it."""
    import torch

    next_BT = torch.roll(token_ids_BT, -1, dims=1) == 0
    return advantages_B[:, None] * torch.where(next_BT & mask_BT, 2.0, 1.0)


@declares(unbiased=False, weight_class="future", row_constant=True, source="false modesty")
def modest(rewards_B, group_B):
    """Leave-one-out that claims to be biased."""
    from credit.baseline import leave_one_out

    return leave_one_out(rewards_B, group_B)
