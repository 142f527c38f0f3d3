"""How much a text counts in likelihood training, by what else is in its batch: exact.

A weight gives the text b of a batch the factor w[b] on its gradient, d/d theta of log p(text). Where w[b] is one number over a
sum of the batch (token_mean: the sum of all lengths), the factor depends on the other texts, and its mean over batches on
the text's own length n, since a long text is part of its own denominator:

    e(n) = E[1 / (n + S)],   S = the lengths of the B - 1 other texts

What is learnt is then the data reweighted by e: q(x) proportional to p(x) e(length of x). With B = 1 that is the sequence
mean, with B without end the constant: token mean is a family that goes from one to the other.

Lengths are numbers of tokens, the end token included; shares_L[n] is the share of texts with n tokens, shares_L[0] = 0.

Shapes: L lengths from 0, S sums of lengths from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from credit.batch import Rollout
from credit.strategy import Strategy


def factors(weight: Callable[..., Tensor], lengths: Sequence[int], max_length: int | None = None) -> Tensor:
    """(B,) factor on the gradient of each text of one batch, float64; for weights that are the same along a text.

    Args:
        max_length: L_max; None: the longest of the batch.
    """
    lengths_B = torch.tensor(lengths)
    mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
    zeros_B = torch.zeros(len(lengths), dtype=torch.float64)
    limit = max_length or int(lengths_B.max())
    return Strategy(weight).score(Rollout(zeros_B, torch.arange(len(lengths)), mask_BT, limit)).weights_BT[:, 0]


def expected_factor(shares_L: Tensor, texts: int) -> Tensor:
    """(L,) e(n) of the token mean over `texts` texts drawn independently, times `texts`; NaN at n = 0.

    The lengths of the others are summed by convolution, so this is exact to rounding.
    """
    size = (texts - 1) * (len(shares_L) - 1) + 1
    waves = torch.fft.rfft(shares_L.double(), n=size) if size > len(shares_L) else None
    if texts == 1:
        others_S = torch.ones(1, dtype=torch.float64)
    elif waves is None:  # one other text
        others_S = shares_L.double()
    else:
        others_S = torch.fft.irfft(waves ** (texts - 1), n=size).clamp(min=0)
    sums_S = torch.arange(len(others_S), dtype=torch.float64)
    found = [texts * (others_S / (own + sums_S)).sum() for own in range(1, len(shares_L))]
    return torch.stack([torch.tensor(torch.nan, dtype=torch.float64), *found])


def learnt_length(shares_L: Tensor, factor_L: Tensor) -> float:
    """Mean length of the data reweighted by a factor of their length."""
    length_L = torch.arange(len(shares_L), dtype=torch.float64)
    mass_L = shares_L[1:].double() * factor_L[1:].double()
    return float(mass_L @ length_L[1:] / mass_L.sum())


def power_factor(shares_L: Tensor, gamma: float) -> Tensor:
    """(L,) factor n^-gamma: length_power in the limit of large batches, 0 the constant, 1 the sequence mean. NaN at 0."""
    length_L = torch.arange(len(shares_L), dtype=torch.float64)
    return torch.where(length_L > 0, length_L.clamp(min=1) ** -gamma, torch.nan)


def ending(shares_L: Tensor, factor_L: Tensor) -> Tensor:
    """(L,) chance that a text of the reweighted data ends with its n-th token if it has not ended before; NaN where none
    has that many."""
    mass_L = shares_L.double() * factor_L.double().nan_to_num()
    there_L = mass_L.flip(0).cumsum(0).flip(0)
    return torch.where(there_L > 0, mass_L / there_L, torch.nan)
