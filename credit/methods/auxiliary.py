"""Terms beside the credit: loss + sum_{b,t} m[b,t] l[b,t], off unless a strategy has an `auxiliary`.

An auxiliary is an object with two methods, which ask for signals by the names of their parameters, as members do:
    measure  (B, T), at least 0, at scoring time, all rows in sight: the coefficient and every denominator are in it
    term     (B, T), in the loss, row by row; `policy_logps_BT`, which it has to ask for, and nothing else has a gradient
The gradient of the sum is the same however the batch is cut, as that of the credit. With `state_dict` and `load_state_dict` it may
remember, as members may. docs/credit/terms.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from credit.checks import member_name
from credit.declare import Declaration, compose, declaration_of, declares


def auxiliary_parts(auxiliary: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """`measure` and `term`.

    Raises:
        ValueError: one of them is not there.
    """
    parts = getattr(auxiliary, "measure", None), getattr(auxiliary, "term", None)
    if not all(callable(part) for part in parts):
        raise ValueError(
            f"auxiliary must have the methods `measure` and `term` of credit/methods/auxiliary.py, got {member_name(auxiliary)}; "
            "credit/auxiliary=nll (with a slash) chooses one."
        )
    return parts  # type: ignore[return-value]


def settings_in(auxiliary: Any) -> dict[str, Any]:
    """Its public attributes that are numbers or words, for pages."""
    return {k: v for k, v in vars(auxiliary).items() if isinstance(v, (int, float, str)) and not k.startswith("_")}


def parts_declared(auxiliary: Any) -> Declaration:
    """What `measure` and `term` declare together; a source that both name stands once."""
    both = compose(*map(declaration_of, auxiliary_parts(auxiliary)))
    return replace(both, source="; ".join(dict.fromkeys(both.source.split("; "))))


def refuse_without_gradient(who: str, asked: Sequence[str]) -> None:
    """Raises ValueError: a term that does not ask for what alone has a gradient."""
    if "policy_logps_BT" not in asked:
        raise ValueError(
            f"{who} does not ask for policy_logps_BT, which alone has a gradient, so it would change nothing. What has none belongs "
            "in `measure`, or in a weight or live weight of the credit."
        )


def refuse_constant(who: str, terms_BT: Tensor, policy_logps_BT: Tensor) -> None:
    """Raises ValueError: a term that has lost the gradient on its way, and is not 0."""
    if policy_logps_BT.requires_grad and not terms_BT.requires_grad and terms_BT.any():
        raise ValueError(
            f"{who} returned numbers without a gradient, so they would change nothing. Leave out `.detach()`, `torch.no_grad()` and "
            "`.item()` on the way from policy_logps_BT to what it returns."
        )


@dataclass
class LikelihoodOfSuccesses:
    """coefficient times the mean negative log-likelihood of the learning tokens of successful rows, over the whole batch; 0 where no
    row is one. VAPO, arXiv 2504.05118, formula and mu as its readers give them; the paper itself could not be read.

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


@dataclass
class GatedDistillation:
    """coefficient times the mean of g (log p_teacher - log p), g = sigmoid(sharpness (log p_teacher - log p)) without gradient, over
    the learning tokens of the rows that have a teacher, in the whole batch. SDAR, arXiv 2605.15155; formula and settings as in code
    that was published with it.

    log p is of the live policy. Without the gate the mean push of fresh samples would be 0 (the score function's mean); with it, the
    term is a policy gradient whose credit is g, of each token by itself, between 0 and 1: what the teacher likes better grows at the
    cost of what it likes less, and no token that it rules out weighs without bound.

    Raises:
        ValueError: a coefficient or sharpness below 0.
    """

    coefficient: float = 0.01
    """lambda, at least 0."""
    sharpness: float = 5.0
    """beta, at least 0: how fast the gate opens with the gap, per nat."""

    def __post_init__(self):
        for name in ("coefficient", "sharpness"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0.")

    @declares(unbiased=False, weight_class="batch", row_constant=True, source="SDAR, arXiv 2605.15155")
    def measure(self, teacher_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
        taught_BT = mask_BT & ~teacher_logps_BT.isnan()
        return self.coefficient * taught_BT / taught_BT.sum().clamp(min=1)

    @declares(unbiased=False, weight_class="action", row_constant=False, source="SDAR, arXiv 2605.15155")
    def term(self, policy_logps_BT: Tensor, teacher_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
        known_BT = mask_BT & ~teacher_logps_BT.isnan()
        gap_BT = (
            torch.where(known_BT, teacher_logps_BT.to(policy_logps_BT.dtype), policy_logps_BT.detach())
            - policy_logps_BT
        )
        return (self.sharpness * gap_BT.detach()).sigmoid() * gap_BT.masked_fill(~known_BT, 0.0)
