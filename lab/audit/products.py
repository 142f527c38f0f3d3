"""Inner products of expected gradients, from those of the gradients of single batches.

Only products of different batches enter the estimate of <m, m'>: its expectation is then that of the mean gradients, whatever the
noise, and no completion is its own yardstick. Each is also computed with one batch left out, for the jackknife.

Shapes: S strategies, B generation batches, X all batches and then each left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Products:
    """Unbiased estimates; the first entry of X is that of all batches, entry b + 1 that without batch b.

    Attributes:
        batches: how many there are.
        means_XSS: <m_s, m_t> of the expected gradients of two strategies.
        squares_XS: E |g_s|^2, expected square of the gradient of one batch.
    """

    batches: int
    means_XSS: Tensor
    squares_XS: Tensor

    @property
    def signal_XS(self) -> Tensor:
        """|m_s|^2."""
        return self.means_XSS.diagonal(dim1=1, dim2=2)

    @property
    def noise_XS(self) -> Tensor:
        """Trace of the covariance of the gradient of one batch."""
        return self.squares_XS - self.signal_XS


def products_of(gram_SBSB: Tensor) -> Products:
    """All of it, from <g[s,b], g[s',b']>.

    Raises:
        ValueError: fewer than four batches.
    """
    batches = gram_SBSB.shape[1]
    if batches < 4:
        raise ValueError(f"{batches} batches tell nothing about noise; an audit needs at least 4, better 16 or more.")
    row_SBS = gram_SBSB.sum(dim=3)
    own_BSS = gram_SBSB.diagonal(dim1=1, dim2=3).permute(2, 0, 1)
    of_batch_BSS = row_SBS.permute(1, 0, 2) - own_BSS
    total_SS = of_batch_BSS.sum(dim=0)
    left_BSS = total_SS - of_batch_BSS - of_batch_BSS.transpose(1, 2)
    square_BS = own_BSS.diagonal(dim1=1, dim2=2)
    return Products(
        batches=batches,
        means_XSS=torch.cat([total_SS[None] / (batches * (batches - 1)), left_BSS / ((batches - 1) * (batches - 2))]),
        squares_XS=torch.cat([square_BS.mean(dim=0)[None], (square_BS.sum(dim=0) - square_BS) / (batches - 1)]),
    )
