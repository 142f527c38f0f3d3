"""Where among the turns of a conversation an update acts, and what was earned there. Few numbers, however many turns there are:
the first turns by themselves, later ones in stretches that double.

Shapes: J turns of the row that has most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.turns.index import has_turn, sum_by_turn, turn_counts

# first and last turn of each stretch, counted from 1
STRETCHES: tuple[tuple[int, int | None], ...] = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, None))
ROUNDING = 1e-6  # of what a row earned in all its turns: the rest that float32 leaves on a last turn is nothing earned


def stretch_name(first: int, last: int | None) -> str:
    """`01`, `03_04`, `17_up`: of two digits, so that a list by name is one by number."""
    return f"{first:02d}" if last == first else f"{first:02d}_{'up' if last is None else f'{last:02d}'}"


def earns_nothing(earned_BJ: Tensor) -> Tensor:
    """(B, J) bool, turns that earned nothing but what rounding left there; true where a row has no such turn."""
    return earned_BJ.abs() <= ROUNDING * earned_BJ.abs().sum(dim=1, keepdim=True)


def measure_turns(push_BT: Tensor, turn_BT: Tensor, rewards_B: Tensor, earned_BT: Tensor | None) -> dict[str, float]:
    """Turns a row, and by stretch of turns the share of the update and what was earned. Empty where no row has two turns and
    nobody says what turns earn: not a batch of conversations. Stretches that no row reaches are left out. A share of no
    update at all is NaN, and so is a mean over no scored row.

    Args:
        push_BT: |A w|.
        rewards_B: NaN where a row could not be scored; such rows earn nothing and are not counted.
        earned_BT: what each turn earned, anywhere at its tokens; None: nobody says.
    """
    counts_B = turn_counts(turn_BT)
    if earned_BT is None and not bool((counts_B > 1).any()):
        return {}
    push_BJ = sum_by_turn(push_BT, turn_BT)
    share_J = push_BJ.sum(dim=0) / push_BJ.sum()
    found = {"turns": float(counts_B.double().mean())} | _by_stretch("turn", share_J)
    if earned_BT is not None:
        earned_BJ = sum_by_turn(earned_BT, turn_BT)
        idle_BJ = earns_nothing(earned_BJ) & has_turn(counts_B, push_BJ.shape[1])
        found["idle_turns"] = float((push_BJ * idle_BJ).sum() / push_BJ.sum())
        found |= _by_stretch("earned", earned_BJ[~rewards_B.isnan()].double().mean(dim=0))
    return found


def _by_stretch(kind: str, values_J: Tensor) -> dict[str, float]:
    parts = {(first, last): values_J[first - 1 : last] for first, last in STRETCHES}
    return {f"{kind}_{stretch_name(*ends)}": float(torch.sum(part)) for ends, part in parts.items() if len(part)}
