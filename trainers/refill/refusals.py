"""What a refill cannot do, and what it takes away: asked before a model is loaded, where the command knows enough."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from credit.batch import Rollout
from credit.strategy import Strategy
from trainers.seam.members import untouched

# Credit that does not come from comparing rewards within a group.
_BEYOND_THE_REWARD = frozenset(
    (
        "prompt_B",
        "values_BT",
        "scoring_values_BT",
        "span_rewards_BT",
        "turn_rewards_BT",
        "teacher_logps_BT",
        "answer_logps_BC",
    )
)


def refuse_refill(rounds: Any, has_environment: bool, reads_reference: bool, columns: Iterable[str] = ()) -> None:
    """Raises ValueError: no number of rounds, or rows that cannot be exchanged. columns: of the training set."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 0:
        raise ValueError(
            f"refill={rounds!r} must be a whole number of rounds, 0 (off) or more, e.g. sampling.refill=3."
        )
    images = sorted({"image", "images"}.intersection(columns))
    otherwise = "Set sampling.refill=0, and take prompts that are always or never solved out of the data."
    rules = (
        (
            has_environment,
            f"conversations with an environment, which keeps what happened in a row's own object. {otherwise}",
        ),
        (
            images,
            f"prompts with images (column {', '.join(images)}): TRL puts them together before it samples. {otherwise}",
        ),
        (
            reads_reference,
            "rows by a reward that is the reference's likelihood: TRL makes that pass later. Such rewards are hardly ever the same "
            "for two texts, so set sampling.refill=0.",
        ),
    )
    for broken, reason in rules:
        if rounds and broken:
            raise ValueError(f"sampling.refill={rounds} cannot exchange {reason}")


def note_of_refill(rounds: int) -> str | None:
    """A line for the announcement; None where nothing is refilled."""
    if not rounds:
        return None
    return f"refill   groups without spread are replaced, in {rounds} round(s) at most: up to {1 + rounds} times the completions"


def learns_without_spread(strategy: Strategy) -> bool:
    """Whether the strategy has credit for groups whose rewards are all the same: a refill would take it away."""
    if strategy.auxiliary is not None or strategy.needs & _BEYOND_THE_REWARD:
        return True
    flat_B, mask_BT = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.ones(4, 1, dtype=torch.bool)
    rollout = Rollout(
        flat_B, torch.tensor([0, 0, 1, 1]), mask_BT, 1, rewards_BK=flat_B[:, None], reward_weights_K=torch.ones(1)
    )
    try:
        with untouched(strategy):
            return bool(strategy.advantages(rollout).any())
    except ValueError:  # it asks for what is not here
        return False
