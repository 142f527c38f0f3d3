"""Spans: credit from the places where the reward was earned.

`span_rewards_BT[b,t]` is what row b earned at token t. Return-to-go keeps, for each token, only what was earned from
there on: a token is neither praised nor blamed for what had been settled before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.declare import declares
from credit.reduce import group_index, sum_by_group


@declares(
    unbiased=True,
    weight_class="none",
    row_constant=False,
    source="reward-to-go with a leave-one-out baseline per position; Sutton et al. 1999, RLOO arXiv 2402.14740",
)
def spans(span_rewards_BT: Tensor, rewards_B: Tensor, group_B: Tensor, mask_BT: Tensor) -> Tensor:
    """A[b,t] = G[b,t] - mean of H[j,t] over the other scorable rows j of the group; G[b,t] = sum_{s>=t} r[b,s].

    H[j,t] is row j's return-to-go at the same position, held at its value at row j's last token once row j is over.
    Brings its own baseline: combine with `baseline: none`, whose output it does not read.

    Assumption: r[b,s] depends on the tokens up to s only (rewards/spans.py; true of the spans of this repository's
    rewards, as far as their docstrings say). Then the part of the reward that is left out is a function of the prefix,
    and the baseline of other rows, so the direction stays unbiased; it is not where a span is decided by later text.

    Degenerate cases: reward at the last token only -> `leave_one_out` with `broadcast`, exactly, whatever the lengths.
    A group with one scorable row gets 0; so does a position where all rows of the group agree. Unscorable rows (NaN
    reward) get 0 and serve as nobody's baseline. Masked tokens: arbitrary finite values, set to 0 by `Strategy`.
    """
    scorable_B1 = ~rewards_B.isnan()[:, None]
    earned_BT = torch.where(scorable_B1, span_rewards_BT, torch.zeros_like(span_rewards_BT))
    returns_BT = earned_BT.flip(1).cumsum(1).flip(1)
    held_BT = _held(returns_BT, mask_BT | (earned_BT != 0))
    index_B, groups = group_index(group_B)
    # Measured from one row of the group: rows that agree give exactly 0, not a rounding error that Adam blows up.
    origin_BT = held_BT[_one_scorable(scorable_B1[:, 0], index_B, groups)]
    held_BT = (held_BT - origin_BT) * scorable_B1
    count_B = sum_by_group(scorable_B1.to(held_BT.dtype), index_B, groups)
    others_BT = (sum_by_group(held_BT, index_B, groups) - held_BT) / (count_B - 1).clamp(min=1)
    credit_BT = returns_BT - origin_BT - others_BT
    return torch.where((count_B > 1) & scorable_B1, credit_BT, torch.zeros_like(credit_BT))


def _held(returns_BT: Tensor, alive_BT: Tensor) -> Tensor:
    """The return-to-go of each row, from its last token on the value there. A row without tokens: 0."""
    positions_T = torch.arange(returns_BT.shape[1], device=returns_BT.device)
    last_B = torch.where(alive_BT, positions_T, torch.full_like(positions_T, -1)).amax(dim=1)
    at_last_B1 = returns_BT.gather(1, last_B.clamp(min=0)[:, None])
    return torch.where(positions_T <= last_B[:, None], returns_BT, at_last_B1)


def _one_scorable(scorable_B: Tensor, index_B: Tensor, groups: int) -> Tensor:
    """(B,) for each row a scorable row of its group, the same for all of them; itself where there is none."""
    rows_B = torch.arange(len(scorable_B), device=scorable_B.device)
    last = torch.where(scorable_B, rows_B, torch.full_like(rows_B, -1))
    chosen = torch.full((groups,), -1, device=rows_B.device, dtype=rows_B.dtype)
    chosen = chosen.scatter_reduce(0, index_B, last, "amax")[index_B]
    return torch.where(chosen < 0, rows_B, chosen)
