"""Sums and moments over groups, rows and batches: the only place that decides the odd cases.

Said once, for every strategy (each line is tested in tests/credit/test_odd_cases.py):
    unscorable row (reward NaN)     left out of every mean and std; its advantage is 0; it still counts in B
    group of one scorable row       nobody to compare with: centred reward 0, so no gradient
    zero-spread group or batch      centred rewards are exactly 0 (rounding of the mean is not amplified by 1/std)
    fully masked row (truncated)    weight 0 on every token; its reward still counts in its group; it still counts in B
    empty row (no tokens)           as a fully masked row
    batch without a single token    all weights 0
All functions keep the dtype and device of their input.

Shapes: X any size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_index(group_B: Tensor) -> tuple[Tensor, int]:
    """Relabels arbitrary group ids to 0..P-1. Returns (index_B, P)."""
    unique, index_B = torch.unique(group_B, return_inverse=True)
    return index_B, int(unique.numel())


def sum_by_group(values_BX: Tensor, index_B: Tensor, groups: int) -> Tensor:
    """(B, X) sum over the rows of each row's group; `index_B`, `groups` as of `group_index`. Every row counts."""
    return values_BX.new_zeros(groups, values_BX.shape[1]).index_add_(0, index_B, values_BX)[index_B]


def group_sum(values_B: Tensor, group_B: Tensor) -> Tensor:
    """(B,) sum over the group of each row, NaN entries left out."""
    index_B, groups = group_index(group_B)
    sums = values_B.new_zeros(groups).index_add_(0, index_B, values_B.nan_to_num(nan=0.0))
    return sums[index_B]


def group_count(values_B: Tensor, group_B: Tensor) -> Tensor:
    """(B,) number of entries in the group of each row that are not NaN, as floats."""
    return group_sum(values_B.isnan().logical_not().to(values_B.dtype), group_B)


def group_centred(values_B: Tensor, group_B: Tensor) -> Tensor:
    """(B,) value minus group mean; exactly 0 for unscorable rows and for groups whose values are all equal."""
    centred_B = values_B - group_sum(values_B, group_B) / group_count(values_B, group_B).clamp(min=1)
    flat_B = _is_flat(values_B[:, None], *group_index(group_B))[:, 0]
    return torch.where(flat_B, torch.zeros_like(centred_B), centred_B).nan_to_num(nan=0.0)


def group_std(values_B: Tensor, group_B: Tensor) -> Tensor:
    """(B,) sample standard deviation (ddof=1) over scorable rows of the group; 0 for groups of fewer than two."""
    centred_B = group_centred(values_B, group_B)
    count_B = group_count(values_B, group_B)
    return (group_sum(centred_B.square(), group_B) / (count_B - 1).clamp(min=1)).sqrt()


def batch_centred(values_B: Tensor) -> Tensor:
    """(B,) value minus batch mean over scorable rows; exactly 0 for unscorable rows and for a constant batch."""
    return group_centred(values_B, torch.zeros_like(values_B, dtype=torch.long))


def batch_std(values_B: Tensor) -> Tensor:
    """(B,) sample standard deviation (ddof=1) of the scorable rows of the batch, repeated for each row."""
    return group_std(values_B, torch.zeros_like(values_B, dtype=torch.long))


def less_others(own_BX: Tensor, held_BX: Tensor, counted_B: Tensor, group_B: Tensor) -> Tensor:
    """(B, X) own[b,x] less the mean of held[j,x] over the other counted rows j of the group.

    0 for rows that do not count and where nobody else counts; exactly 0 where all rows of the group hold what is own.

    Args:
        own_BX, held_BX: what a row is credited with, and what it lends to the others as a baseline.
        counted_B: bool, rows that take part. Numbers of the others are not read, NaN included.
    """
    index_B, groups = group_index(group_B)
    counted_B1 = counted_B[:, None]
    zero = torch.zeros_like(held_BX)
    held_BX = torch.where(counted_B1, held_BX, zero)
    # Measured from one row of the group: rows that agree give exactly 0, not a rounding error that Adam blows up.
    origin_BX = held_BX[_one_counted(counted_B, index_B, groups)]
    shifted_BX = torch.where(counted_B1, held_BX - origin_BX, zero)
    count_B1 = sum_by_group(counted_B1.to(held_BX.dtype), index_B, groups)
    others_BX = (sum_by_group(shifted_BX, index_B, groups) - shifted_BX) / (count_B1 - 1).clamp(min=1)
    return torch.where((count_B1 > 1) & counted_B1, own_BX - origin_BX - others_BX, zero)


def _one_counted(counted_B: Tensor, index_B: Tensor, groups: int) -> Tensor:
    """(B,) for each row a counted row of its group, the same for all of them; itself where there is none."""
    rows_B = torch.arange(len(counted_B), device=counted_B.device)
    last = torch.where(counted_B, rows_B, torch.full_like(rows_B, -1))
    chosen = torch.full((groups,), -1, device=rows_B.device, dtype=rows_B.dtype)
    chosen = chosen.scatter_reduce(0, index_B, last, "amax")[index_B]
    return torch.where(chosen < 0, rows_B, chosen)


def column_moments(values_BX: Tensor, counted_BX: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """(centred_BX, std_BX) over the rows of the group that count in that column; ddof 1; 0 where a row does not count.

    Exactly 0 where all that count are equal. Numbers that do not count are not read, NaN included.
    """
    index_B, groups = group_index(group_B)
    count_BX = sum_by_group(counted_BX.to(values_BX.dtype), index_B, groups)
    kept_BX = torch.where(counted_BX, values_BX, torch.zeros_like(values_BX))
    mean_BX = sum_by_group(kept_BX, index_B, groups) / count_BX.clamp(min=1)
    flat_BX = _is_flat(values_BX.masked_fill(~counted_BX, torch.nan), index_B, groups)
    centred_BX = torch.where(counted_BX & ~flat_BX, values_BX - mean_BX, 0.0)
    variance_BX = sum_by_group(centred_BX.square(), index_B, groups) / (count_BX - 1).clamp(min=1)
    return centred_BX, variance_BX.sqrt()


def _is_flat(values_BX: Tensor, index_B: Tensor, groups: int) -> Tensor:
    """(B, X) bool: all values of the column that are not NaN are equal in the row's group, so that nothing is left but rounding."""
    inf, at_BX = torch.finfo(values_BX.dtype).max, index_B[:, None].expand_as(values_BX)
    low = values_BX.new_full((groups, values_BX.shape[1]), inf)
    low = low.scatter_reduce_(0, at_BX, values_BX.nan_to_num(nan=inf), "amin")
    high = values_BX.new_full((groups, values_BX.shape[1]), -inf)
    high = high.scatter_reduce_(0, at_BX, values_BX.nan_to_num(nan=-inf), "amax")
    return (high <= low)[index_B]
