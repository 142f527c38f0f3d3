"""Surrogates f(rho, A) of the loss -sum w f(rho, A), for the lab's off-policy measurements.

Training takes them from TRL; these are the same formulas, small enough to differentiate exactly. Each takes the ratio
(B, T), which carries the gradient of the token's own log-probability, and the credit (B, T).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def unclipped(rho: Tensor, advantages: Tensor) -> Tensor:
    """f = rho A: importance weighting, no trust region."""
    return rho * advantages


def clipped(rho: Tensor, advantages: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    """f = min(rho A, clip(rho, 1 - low, 1 + high) A). PPO, arXiv 1707.06347, equation 7; TRL's default."""
    return torch.minimum(rho * advantages, rho.clamp(1 - low, 1 + high) * advantages)


def cispo(rho: Tensor, advantages: Tensor, high: float = 5.0) -> Tensor:
    """f = sg(min(rho, high)) A log rho: clipped weight, every token keeps a gradient. CISPO, arXiv 2506.13585."""
    return rho.detach().clamp(max=high) * advantages * rho.log()


def sapo(rho: Tensor, advantages: Tensor, positive: float = 1.0, negative: float = 1.05) -> Tensor:
    """f = (4 / tau) sigmoid(tau (rho - 1)) A with a temperature per sign of A. SAPO, arXiv 2511.20347."""
    tau = torch.where(advantages > 0, positive * torch.ones_like(advantages), negative)
    return 4 / tau * torch.sigmoid(tau * (rho - 1)) * advantages


SURROGATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": unclipped,
    "clip": clipped,
    "cispo": cispo,
    "sapo": sapo,
}
