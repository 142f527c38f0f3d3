"""Where in the texts an update comes from: slices of the tokens by position, by the length of their row, and by turn.

Shapes: N slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.turns.index import turn_index

POSITIONS, LENGTHS, MOST_TURNS = 8, 4, 8


@dataclass(frozen=True)
class Edges:
    """Where slices end, the same in all batches: slice i holds what is at least edge i and less than edge i + 1.

    Attributes:
        position: tokens before this one in its completion, text of tools with them.
        length: tokens of the row that learn.
        turn: turns before; the last slice holds all later ones.
    """

    position: tuple[int, ...]
    length: tuple[int, ...]
    turn: tuple[int, ...]


def edges_of(widths: Sequence[int], lengths: Sequence[int], turns: int) -> Edges:
    """widths: of all rows, places up to the last token that learns; lengths: tokens that learn; turns: of the row with most."""
    end = max(*widths, 1)
    positions = sorted({round(end * i / POSITIONS) for i in range(POSITIONS + 1)})
    ranked = torch.tensor(sorted(lengths)).double()
    cuts = {int(torch.quantile(ranked, i / LENGTHS)) for i in range(1, LENGTHS)} if len(ranked) else set()
    inner = sorted(cut for cut in cuts if min(lengths) < cut)
    return Edges(
        tuple(positions),
        (min(lengths), *inner, max(lengths) + 1),
        (*range(min(turns, MOST_TURNS)), max(turns, 1)) if turns > 1 else (0, 1),
    )


def slices_of(mask_BT: Tensor, edges: Edges) -> dict[str, Tensor]:
    """Kind -> (B, T) int64 number of each token's slice; -1 where it does not learn. "place": position and length at once, counted
    length by length."""
    position_BT = _numbers(torch.arange(mask_BT.shape[1]).expand_as(mask_BT), edges.position)
    length_BT = _numbers(mask_BT.sum(dim=1, keepdim=True).expand_as(mask_BT), edges.length)
    found = {
        "position": position_BT,
        "length": length_BT,
        "turn": _numbers(turn_index(mask_BT).clamp(min=0), edges.turn),
        "place": length_BT * (len(edges.position) - 1) + position_BT,
    }
    return {kind: number_BT.masked_fill(~mask_BT, -1) for kind, number_BT in found.items()}


def sums_by_slice(values_BT: Tensor, slice_BT: Tensor, count: int) -> Tensor:
    """(N,) float64 sums over the tokens of each of `count` slices."""
    counts = slice_BT >= 0
    sums_N = torch.zeros(count, dtype=torch.float64)
    return sums_N.index_add_(0, slice_BT[counts], values_BT[counts].double())


def _numbers(values_BT: Tensor, edges: Sequence[int]) -> Tensor:
    inner = torch.tensor(edges[1:-1], dtype=torch.int64)
    return torch.bucketize(values_BT.contiguous(), inner, right=True)
