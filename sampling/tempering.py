"""The identity every sampler here rests on.

Token temperature draws from q(x) = prod_t p(x_t|x_<t)^alpha / Z_t(x_<t), with Z_t(h) = sum_v p(v|h)^alpha.
Sequence temperature is p_alpha(x) = p(x)^alpha / Z. Hence, for every text,

    p(x)^alpha = q(x) * prod_t Z_t(x_<t)

so the importance weight of a token-tempered draw is log w = sum_t log Z_t: free from the logits on its own path, and
known before the token is drawn. The two temperatures agree only where prod_t Z_t is the same for every text, for
instance with independent tokens and a fixed length, or at alpha = 1, where Z_t = 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alpha_of(tau: float) -> float:
    """alpha = 1 / tau.

    Raises:
        ValueError: tau is not a positive finite number.
    """
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not math.isfinite(tau) or tau <= 0:
        raise ValueError(
            f"tau={tau!r} is no temperature: it must be a positive number (1 leaves the model as it is, below 1 "
            "sharpens, above 1 flattens). For greedy decoding take a small one such as tau=0.01."
        )
    return 1.0 / tau


def temper(logits_NV: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns log p (N, V), log q (N, V) and log Z (N,), in float32 or better. -inf logits stay -inf."""
    logps_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)).log_softmax(-1)
    if alpha == 1.0:
        return logps_NV, logps_NV, logps_NV.new_zeros(logps_NV.shape[0])
    powers_NV = alpha * logps_NV
    log_z_N = powers_NV.logsumexp(-1)
    return logps_NV, powers_NV - log_z_N[:, None], log_z_N
