"""Turns of a completion as numbers: which token belongs to which turn, and sums over them.

A turn is a run of tokens that the policy wrote in one go: it begins where `mask_BT` rises and ends where it falls, so tool
text and padding stand between turns and belong to none. A row that begins or ends in tool text has as many turns as runs.

Shapes: J turns of the row that has most, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def turn_index(mask_BT: Tensor) -> Tensor:
    """(B, T) int64 number of the turn each learning token belongs to, from 0; -1 where the mask is False."""
    before_BT = torch.nn.functional.pad(mask_BT[:, :-1], (1, 0), value=False)
    return ((mask_BT & ~before_BT).cumsum(dim=1) - 1).masked_fill(~mask_BT, -1)


def runs_of(mask_T: Sequence[bool]) -> list[list[int]]:
    """The turns of one row: positions of each unbroken run of learning tokens."""
    runs: list[list[int]] = []
    for t, learns in enumerate(mask_T):
        if learns:
            if t == 0 or not mask_T[t - 1]:
                runs.append([])
            runs[-1].append(t)
    return runs


def turn_ends(turn_BT: Tensor) -> Tensor:
    """(B, T) bool, the last learning token of each turn."""
    after_BT = torch.nn.functional.pad(turn_BT[:, 1:], (0, 1), value=-1)
    return (turn_BT >= 0) & (after_BT != turn_BT)


def turn_starts(turn_BT: Tensor) -> Tensor:
    """(B, T) bool, the first learning token of each turn."""
    before_BT = torch.nn.functional.pad(turn_BT[:, :-1], (1, 0), value=-1)
    return (turn_BT >= 0) & (before_BT != turn_BT)


def turn_counts(turn_BT: Tensor) -> Tensor:
    """(B,) int64 turns of each row; 0 for a row without learning tokens."""
    return turn_BT.amax(dim=1) + 1 if turn_BT.shape[1] else turn_BT.new_zeros(len(turn_BT))


def sum_by_turn(values_BT: Tensor, turn_BT: Tensor) -> Tensor:
    """(B, J) sums over the learning tokens of each turn; 0 for turns that a row has not. J is at least 1.

    Values at masked positions are not read, NaN included.
    """
    width = max(int(turn_BT.max()) + 1 if turn_BT.numel() else 0, 1)
    kept_BT = torch.where(turn_BT >= 0, values_BT, torch.zeros_like(values_BT))
    return kept_BT.new_zeros(len(turn_BT), width).scatter_add_(1, turn_BT.clamp(min=0), kept_BT)


def earned_by_turn_end(earned_BT: Tensor, turn_BT: Tensor) -> Tensor:
    """(B, T) what was earned token by token, moved to the last learning token of the turn it stands in or follows (before the
    first turn: of the first); 0 elsewhere. Rows keep their sums, but for rows without a turn, which keep nothing."""
    where_BT = turn_BT.cummax(dim=1).values.clamp(min=0) if turn_BT.shape[1] else turn_BT
    width = max(int(turn_BT.max()) + 1 if turn_BT.numel() else 0, 1)
    sums_BJ = earned_BT.new_zeros(len(turn_BT), width).scatter_add_(1, where_BT, earned_BT)
    return spread_over_turns(sums_BJ, turn_BT) * turn_ends(turn_BT)


def spread_over_turns(values_BJ: Tensor, turn_BT: Tensor) -> Tensor:
    """(B, T) each learning token gets its turn's value; 0 at masked tokens."""
    return values_BJ.gather(1, turn_BT.clamp(min=0)).masked_fill(turn_BT < 0, 0.0)


def has_turn(counts_B: Tensor, width: int) -> Tensor:
    """(B, J) bool, whether the row has that turn."""
    return torch.arange(width, device=counts_B.device) < counts_B[:, None]


def fitted_tokens(at: str, mask_BT: Tensor) -> Tensor:
    """(B, T) bool, where a critic's V is fitted: every learning token ("tokens"), the first of each turn ("turns") or of each
    row ("prompt")."""
    if at == "tokens":
        return mask_BT
    return turn_starts(turn_index(mask_BT)) if at == "turns" else mask_BT & (mask_BT.cumsum(dim=1) == 1)
