"""Terms beside the credit: loss + sum_{b,t} m[b,t] l[b,t], off unless a strategy has an `auxiliary`.

An auxiliary is an object with two methods, which ask for signals by the names of their parameters, as members do:
    measure  (B, T), at least 0, at scoring time, all rows in sight: the coefficient and every denominator are in it
    term     (B, T), in the loss, row by row; of what it reads, `policy_logps_BT` has its gradient
The gradient of the sum is the same however the batch is cut, as that of the credit. No state is kept in checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from credit.declare import declares


def auxiliary_parts(auxiliary: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """`measure` and `term`.

    Raises:
        ValueError: one of them is not there.
    """
    parts = getattr(auxiliary, "measure", None), getattr(auxiliary, "term", None)
    if not all(callable(part) for part in parts):
        raise ValueError(
            f"auxiliary must have the methods `measure` and `term` of credit/methods/auxiliary.py, got {auxiliary!r}; "
            "credit/auxiliary=nll (with a slash) chooses one."
        )
    return parts  # type: ignore[return-value]


@dataclass
class LikelihoodOfSuccesses:
    """coefficient times the mean negative log-likelihood of the learning tokens of successful rows, over the whole batch; 0 where no
    row is one. VAPO, arXiv 2504.05118, equation 9.

    Raises:
        ValueError: a coefficient below 0.
    """

    coefficient: float = 0.1
    """mu, at least 0."""
    success: float = 0.5
    """A row whose reward is at least that is a success."""

    def __post_init__(self):
        if not self.coefficient >= 0.0:
            raise ValueError(f"coefficient={self.coefficient} must be at least 0.")

    @declares(unbiased=False, weight_class="future", row_constant=True, source="VAPO, arXiv 2504.05118")
    def measure(self, rewards_B: Tensor, mask_BT: Tensor) -> Tensor:
        learning_BT = mask_BT & (rewards_B >= self.success)[:, None]
        return self.coefficient * learning_BT / learning_BT.sum().clamp(min=1)

    @declares(unbiased=False, weight_class="future", row_constant=True, source="VAPO, arXiv 2504.05118")
    def term(self, policy_logps_BT: Tensor) -> Tensor:
        return -policy_logps_BT
