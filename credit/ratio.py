"""Ratios: which probability ratio rho[b,t] the surrogate sees. On-policy every one of them is 1.

A member maps (policy_logps_BT, sampler_logps_BT, mask_BT) -> log rho (B, T), row by row, in the loss. The trainer gives
the surrogate that *value* with the gradient of the token's own log-probability, so token credit survives:
rho[b,t] = exp(log_rho[b,t] + logp[b,t] - stop_gradient(logp[b,t])).
"""

from __future__ import annotations

from torch import Tensor

from credit.declare import declares


@declares(unbiased=True, weight_class="none", row_constant=True, source="PPO, arXiv 1707.06347, equation 6")
def token(policy_logps_BT: Tensor, sampler_logps_BT: Tensor) -> Tensor:
    """log rho[b,t] = log p(y_t) - log q(y_t). TRL's `importance_sampling_level="token"`."""
    return policy_logps_BT - sampler_logps_BT


@declares(
    unbiased=True, weight_class="none", row_constant=True, source="GSPO, arXiv 2507.18071, equation 13 (GSPO-token)"
)
def sequence(policy_logps_BT: Tensor, sampler_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log rho[b,t] = mean over the row's tokens of the log ratio: one ratio per completion, credit stays per token.
    0 on rows without tokens."""
    log_ratio_BT = (policy_logps_BT - sampler_logps_BT).masked_fill(~mask_BT, 0.0)
    mean_B = log_ratio_BT.sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)
    return mean_B[:, None].expand(policy_logps_BT.shape)
