"""What is audited side by side: strategies, each with what it keeps between batches, and credit that is there to be compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from credit.critic import AdapterSpec
from credit.strategy import Strategy
from trainers.critic.base import Critic
from trainers.seam.members import MemberStates, keepers_of

REFERENCE, LENGTH = "rloo", "length"


@dataclass(eq=False)
class Candidate:
    """One way to give credit to the completions of a batch.

    Args:
        name: as it was typed.
        strategy: its credit.
        of_length: the reward is the number of tokens that learn, whatever the reward functions say.
        only: the place of one reward function; the others count 0. None: all count.
        critic, members: what the trainer holds while the candidate has its turn; made by it.
    """

    name: str
    strategy: Strategy
    of_length: bool = False
    only: int | None = None
    critic: Critic | None = None
    members: MemberStates | None = None

    @property
    def learns(self) -> bool:
        """Whether it keeps something from batch to batch."""
        return learns(self.strategy)

    def of_one_reward(self, place: int) -> Candidate:
        """The same credit, critic and members with one reward function alone."""
        return replace(self, only=place)


def learns(strategy: Strategy) -> bool:
    """Whether it has a critic, something that remembers, or a model that learns. What only follows the policy (an average of it)
    does not count: an audit does not move it."""
    kept = keepers_of(strategy).values()
    return strategy.critic is not None or not all(map(_only_follows, kept))


def _only_follows(keeper: Any) -> bool:
    return getattr(keeper, "stands_still_in_evaluation", False) and not getattr(keeper, "learns", False)


@contextmanager
def turn_of(trainer: Any, candidate: Candidate) -> Iterator[None]:
    """The trainer is this candidate's inside."""
    names = ("credit", "critic", "members")
    before = {name: getattr(trainer, name) for name in names}
    trainer.credit, trainer.critic, trainer.members = candidate.strategy, candidate.critic, candidate.members
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(trainer, name, value)


def refuse_together(strategies: dict[str, Strategy]) -> None:
    """Raises ValueError for strategies that cannot stand beside each other on one policy, and for members that an audit cannot hold
    still: what they learned of one batch would be in the credit of the next."""
    adapters = [name for name, strategy in strategies.items() if isinstance(strategy.critic, AdapterSpec)]
    if len(adapters) > 1:
        raise ValueError(
            f"{' and '.join(adapters)} each put a critic's adapter on the policy, which has room for one. Audit one at a time, or "
            "choose credit/critic=head or ridge."
        )
