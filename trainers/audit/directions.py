"""Which backward passes are enough for all strategies: coefficients of log-prob gradients, reduced to those that differ in direction.

A gradient is linear in its coefficients. Strategies that give proportional ones (the group's mean against the mean of the others),
or on one row alone all that give each of its tokens the same, need one backward pass together.

Shapes: S strategies, N tokens of all rows at hand, R directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Of a strategy's coefficients: below it, what is left is the rounding of the float32 loss they come from.
ROUNDING = 5e-7


def directions_of(coefficients_SN: Tensor, tolerance: float = ROUNDING) -> tuple[Tensor, Tensor]:
    """(weights_SR, directions_RN) with weights_SR @ directions_RN = coefficients_SN up to `tolerance` of each row's norm, the
    directions of length 1 and at right angles, as few as there can be. Gram-Schmidt that takes the largest remainder first."""
    sizes_S = coefficients_SN.norm(dim=1)
    left_SN, found = coefficients_SN.clone(), []
    while len(found) < len(coefficients_SN):
        shares_S = left_SN.norm(dim=1) / sizes_S.clamp(min=torch.finfo(sizes_S.dtype).tiny)
        widest = int(shares_S.argmax())
        if not shares_S[widest] > tolerance:
            break
        direction_N = left_SN[widest] / left_SN[widest].norm()
        for _ in range(2):  # once more for what rounding left
            left_SN = left_SN - (left_SN @ direction_N)[:, None] * direction_N
        found.append(direction_N)
    directions_RN = torch.stack(found) if found else coefficients_SN.new_zeros((0, coefficients_SN.shape[1]))
    return coefficients_SN @ directions_RN.T, directions_RN
