"""What a member says about itself. The lab checks it; nothing here is taken on trust.

@declares(unbiased=True, weight_class="none", source="RLOO, arXiv 2402.14740")
def leave_one_out(rewards_B, group_B): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

WEIGHT_CLASSES = ("none", "state", "group", "batch", "action", "future")
AnyMember = TypeVar("AnyMember", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """Promises of one member (or, composed, of a strategy).

    Args:
        unbiased: the expected on-policy update points exactly along the gradient of E[reward] (any scale), for
            groups of at least two; None: nothing is claimed.
        weight_class: what the factor on a token's score may depend on, from harmless to harmful: "none", "state"
            (the prefix), "group", "batch", "action" (the token itself), "future" (what comes after it, its row's
            length included). From "group" on, a baseline no longer cancels.
        row_constant: every learning token of a row gets the same value. Needed for TRL's sequence-level ratio.
        source: title, arXiv id, equation.
    """

    unbiased: bool | None = None
    weight_class: str | None = None
    row_constant: bool | None = None
    source: str = ""

    def __post_init__(self):
        if self.weight_class is not None and self.weight_class not in WEIGHT_CLASSES:
            raise ValueError(f"weight_class={self.weight_class!r} is not one of {', '.join(WEIGHT_CLASSES)}.")


def declares(**promises) -> Callable[[AnyMember], AnyMember]:
    """Attaches a `Declaration` to a function or class; returns it unchanged."""

    def attach(member: AnyMember) -> AnyMember:
        member.declaration = Declaration(**promises)  # type: ignore[attr-defined]
        return member

    return attach


def declaration_of(member) -> Declaration:
    """The declaration of a function, partial, class or instance; an empty one (nothing claimed) if there is none."""
    while isinstance(member, partial):
        member = member.func
    return getattr(member, "declaration", Declaration())


def compose(*declarations: Declaration) -> Declaration:
    """A strategy is unbiased if all members are, biased if one is; its weight class is the worst; row-constant if
    all are. One unknown makes the whole unknown, unless another member already settles it."""
    unbiased = _all(d.unbiased for d in declarations)
    row_constant = _all(d.row_constant for d in declarations)
    classes = [d.weight_class for d in declarations]
    worst = None if None in classes else max(classes, key=WEIGHT_CLASSES.index, default="none")
    return Declaration(unbiased, worst, row_constant, "; ".join(d.source for d in declarations if d.source))


def _all(claims) -> bool | None:
    claims = list(claims)
    if False in claims:
        return False
    return None if None in claims else True
