"""What this rank's rows earned turn by turn, for those who look on: records and metrics. A strategy that reads it asks its
provider (credit/signals/turns.py)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from credit.turns.index import earned_by_turn_end, turn_index
from trainers.seam.token_spans import noted_span_rewards
from trainers.seam.visit import Scoring


def says_turns(trainer: Any) -> bool:
    """Whether a reward function speaks of turns."""
    return any(_has(func, "turn_rewards") for func in trainer.reward_funcs)


def knows_turns(trainer: Any) -> bool:
    """Whether one does, and asking costs nothing: each that would have to work for its answer (a judge) is asked only where a
    strategy or a record needs it. A function says that it knows by an attribute `knows_turns`."""
    others = [func for func in trainer.reward_funcs if getattr(func, "knows_turns", False) is not True]
    asked = any(_has(func, "turn_rewards") or _has(func, "spans") for func in others)
    return says_turns(trainer) and not asked


def rewards_by_turn(trainer: Any, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """(B_local, T_local) each: what was earned token by token, and by turn at the last learning token of each."""
    assert scoring.mask_BT is not None
    earned_BT = noted_span_rewards(trainer, scoring, scoring.mask_BT)
    return earned_BT, earned_by_turn_end(earned_BT, turn_index(scoring.mask_BT))


def _has(func: Any, method: str) -> bool:
    return callable(getattr(func, method, None))
