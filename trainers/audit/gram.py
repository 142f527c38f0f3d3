"""Inner products of the gradients of all batches.

Shapes: S strategies, B generation batches (in this file; elsewhere rows), K numbers of a sketch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COLUMNS = 1 << 14


def gram_of(sketches: Sequence[Tensor]) -> Tensor:
    """(S, B, S, B) float64 of B sketches (S, K), a few columns at a time, so that no float64 copy of them all exists."""
    strategies, size = sketches[0].shape
    rows = strategies * len(sketches)
    gram = torch.zeros((rows, rows), dtype=torch.float64)
    for first in range(0, size, _COLUMNS):
        some = torch.stack([one[:, first : first + _COLUMNS].double() for one in sketches], dim=1).flatten(0, 1)
        gram += some @ some.T
    return gram.view(strategies, len(sketches), strategies, len(sketches))
