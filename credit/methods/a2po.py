"""Regression on the optimal advantage, with the optimal value from a table made before training.

    A[b] = R[b] - V*[x] - pull sum_t log(pi / pi_ref)[b,t]

V* is the value of the best policy under a KL penalty, estimated from completions of the reference policy (`offline_value_B`).
On-policy this is, up to a factor, the gradient of the paper's least-squares loss (pull log(pi / pi_ref) - (R - V*))^2: so it has a
strategy's form, and a group of one is enough. With `pull` 0 it is unbiased for the reward; the log-ratio belongs to the KL penalty
that the method maximises under. Off-policy (`num_iterations` > 1) the log-ratio stays that of the policy that sampled, and TRL's
clipped surrogate stands where the paper has its square.

Source: A*-PO, arXiv 2505.20686, equations 4 and 5. Not here: its filter of prompts on which no offline completion succeeded.
"""

from __future__ import annotations

from torch import Tensor

from credit.declare import declares


@declares(unbiased=False, weight_class="none", row_constant=True, source="A*-PO, arXiv 2505.20686, equation 5")
def optimal_advantage(
    rewards_B: Tensor,
    mask_BT: Tensor,
    offline_value_B: Tensor,
    scoring_logps_BT: Tensor,
    ref_logps_BT: Tensor,
    pull: float = 1e-3,
) -> Tensor:
    """A = R - V* - pull log(pi / pi_ref) of the row.

    Args:
        pull: the paper's beta_2, reward for each nat that the row's log-prob has come from the reference.

    Raises:
        ValueError: `pull` is negative.
    """
    if not pull >= 0.0:
        raise ValueError(f"pull={pull} must be 0 or more.")
    moved_B = (scoring_logps_BT - ref_logps_BT).masked_fill(~mask_BT, 0.0).sum(dim=1)
    return (rewards_B - offline_value_B - pull * moved_B.to(rewards_B.dtype)).nan_to_num(nan=0.0)
