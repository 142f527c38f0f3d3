"""Weights: the measure over tokens, w[b,t] >= 0. This is where token-level meets sequence-level.

Each runs at scoring time with the mask of all ranks, so counts are global by construction. In the formulas B is the
number of rows (fully masked rows included) and L_b the learning tokens of row b. Total mass over the batch is what the
formula gives; `Strategy(unit_mass=True)` rescales any of them to 1. Output: (B, T); 0 at masked tokens is enforced by
`Strategy`. `Strategy` casts to the dtype of the rewards.

The trainer spreads one generation batch over k = steps_per_generation / gradient_accumulation_steps optimiser steps
and multiplies by k, so that each optimiser step has the mass written here.
"""

from __future__ import annotations

from torch import Tensor

from credit.declare import declares


@declares(unbiased=False, weight_class="batch", row_constant=True, source="DAPO, arXiv 2503.14476, equation 8")
def token_mean(mask_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """w = 1 / sum_b L_b. Every token of the batch weighs the same. The random denominator bends the direction by
    O(1/B). TRL's `loss_type="dapo"`."""
    return mask_BT / lengths_B.sum().clamp(min=1)


@declares(unbiased=False, weight_class="future", row_constant=True, source="GRPO, arXiv 2402.03300, equation 3")
def seq_mean(mask_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """w = 1 / (B L_b). Every completion weighs the same, so tokens of long ones weigh less: short successes and long
    failures are favoured. TRL's `loss_type="grpo"`."""
    return mask_BT / (mask_BT.shape[0] * lengths_B.clamp(min=1))[:, None]


@declares(unbiased=True, weight_class="none", row_constant=True, source="Dr.GRPO, arXiv 2503.20783, equation 3")
def constant(mask_BT: Tensor, max_length: int) -> Tensor:
    """w = 1 / (B L_max). A constant: the direction of the policy gradient, with a step that shrinks when rows are
    short. TRL's `loss_type="dr_grpo"`."""
    return mask_BT / (mask_BT.shape[0] * max_length)


@declares(unbiased=True, weight_class="none", row_constant=True, source="LUSPO, arXiv 2602.05261")
def seq_sum(mask_BT: Tensor) -> Tensor:
    """w = 1 / B. The gradient of log-probabilities of whole sequences. TRL's `loss_type="luspo"` (token level)."""
    return mask_BT / mask_BT.shape[0]


@declares(
    unbiased=False, weight_class="future", row_constant=True, source="InternVL 2.5, arXiv 2412.05271, section 3.3"
)
def length_power(mask_BT: Tensor, lengths_B: Tensor, gamma: float = 0.5) -> Tensor:
    """w = L_b^-gamma / sum_b L_b^(1-gamma), total mass 1. gamma=0 is token_mean, gamma=1 is seq_mean over rows with at
    least one token, 0.5 the "square averaging" of InternVL. Any real gamma is allowed.

    Args:
        gamma: 0: every token weighs the same; 1: every completion.
    """
    has_tokens_B = lengths_B > 0
    powers_B = lengths_B.clamp(min=1).double() ** -gamma * has_tokens_B
    total = (powers_B * lengths_B).sum()
    return mask_BT * powers_B[:, None] / total.clamp(min=1e-30)
