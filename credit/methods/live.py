"""Live weights: factors on the weights that read the live forward pass, asked for each micro-batch, row by row.

A factor changes while a batch is used again (`trainer.num_iterations` > 1), where weights made at scoring time stand still. It has
no gradient. Output: (B, T), at least 0; 0 at masked tokens is enforced by `Strategy`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from credit.declare import declares


@declares(unbiased=False, weight_class="action", row_constant=False, source="TACO, arXiv 2607.07976")
def taco(
    policy_logps_BT: Tensor,
    entropies_BT: Tensor,
    advantages_B: Tensor,
    alpha: float = 0.01,
    lambda_: float = 0.9,
) -> Tensor:
    """A token of a successful row that the policy finds far less likely than its entropy lets expect counts less:
    w = 1 - lambda_ (1 - exp(-r)) where r = -log p - H + log alpha > 0 and the row's advantage is above 0; else 1.

    Args:
        alpha: share of exp(-H), the typical probability, below which a token is suspect; above 0.
        lambda_: how much of its weight a suspect token loses at most, from 0 to 1.
    """
    if not alpha > 0.0:
        raise ValueError(f"alpha={alpha} must be above 0.")
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"lambda_={lambda_} must lie between 0 and 1.")
    excess_BT = -policy_logps_BT - entropies_BT + math.log(alpha)
    is_suspect_BT = (excess_BT > 0) & (advantages_B > 0)[:, None]
    return torch.where(is_suspect_BT, 1 - lambda_ * (1 - (-excess_BT).exp()), 1.0)


@declares(
    unbiased=False, weight_class="state", row_constant=False, source="entropy weighting; cf. 80/20, arXiv 2506.01939"
)
def entropy(entropies_BT: Tensor) -> Tensor:
    """w = H, nats, of the live policy before the token: where it is undecided now. With `unit_mass` the denominator is that of the whole
    batch under the policy that sampled."""
    return entropies_BT.clamp(min=0.0)
