"""What is kept of one rollout in an environment: which calls it ran, what the policy was shown, what went wrong."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tasks.environments.numbers import Numbers

_log = logging.getLogger("rewards")
_told: set[tuple[str, str]] = set()
_ATTRIBUTE = "_apportion_notes"
_elsewhere: dict[
    int, tuple[Any, Notes]
] = {}  # of objects that take no attribute (`__slots__`), by id; held, so that ids stay


@dataclass
class Notes:
    """Of one rollout, from `reset` on.

    Attributes:
        calls: for every tool call that reached the environment, in order: (name, whether it ran to its end).
        states: `state_key()` after `reset` and after each of these calls, as int64 keys; empty without such a method.
        fault: (kind, detail) of what went wrong in the environment, None while nothing did. Such a row is not scored.
        grown: number of the call -> how many entries longer `rewards` was after it; async calls, which overlap, are not in it.
        told: (number of calls made by then, what `turn_rewards()` said); None before it was asked.
        loop: the event loop on which async tools ran, in this rollout or one before: what they opened belongs to it.
        deals: gives each rollout random numbers of its own; None: it draws from the global ones.
        numbers: those of this rollout.
        stillborn: why there is no environment, only one that stands for it.
    """

    calls: list[tuple[str, bool]] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    grown: dict[int, int] = field(default_factory=dict)
    fault: tuple[str, str] | None = None
    told: tuple[int, Any] | None = None
    loop: Any = None
    deals: Callable[[], Numbers] | None = None
    numbers: Numbers | None = None
    stillborn: str | None = None


def notes_of(environment: Any) -> Notes:
    """The notes of an environment; empty ones of its own where it is not guarded."""
    return _known(environment) or fresh_notes(environment)


def fresh_notes(environment: Any) -> Notes:
    """Begins a rollout."""
    before = _known(environment)
    notes = Notes()
    if before is not None:
        notes.loop, notes.deals, notes.stillborn = before.loop, before.deals, before.stillborn
    notes.numbers = notes.deals() if notes.deals is not None else None
    try:
        object.__setattr__(environment, _ATTRIBUTE, notes)
    except AttributeError:
        _elsewhere[id(environment)] = (environment, notes)
    return notes


def spoil(environment: Any, kind: str, detail: str) -> None:
    """The rollout went wrong by the environment's doing: its row will not be scored. The first reason is kept, and each kind is
    said once for a class."""
    notes, name = notes_of(environment), type(environment).__name__
    if notes.fault is None:
        notes.fault = (kind, detail)
    if (name, kind) not in _told:
        _told.add((name, kind))
        _log.warning(
            "Environment %r went wrong in a rollout (%s: %s); the row is not scored. Further faults of this kind are counted, not "
            "shown.",
            *(name, kind, detail),
        )


def count_noted(environment: Any, earned: bool = False) -> int | None:
    """How many entries the environment's `rewards` has; None: it has no such list or mapping.

    Args:
        earned: 0 where none of them is anything but 0 or None.
    """
    noted = getattr(environment, "rewards", None)
    if not isinstance(noted, (list, tuple, dict)):
        return None
    values = noted.values() if isinstance(noted, dict) else noted
    return len(noted) if not earned or any(value is not None and value != 0 for value in values) else 0


def state_number(key: Any) -> int:
    """An int64 that is the same for equal keys, in every process and run."""
    return int.from_bytes(
        hashlib.blake2b(repr(key).encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True
    )


def _known(environment: Any) -> Notes | None:
    try:
        notes = object.__getattribute__(environment, _ATTRIBUTE)  # a `__getattr__` of its own is not asked
    except AttributeError:
        notes = None
    return notes if isinstance(notes, Notes) else _elsewhere.get(id(environment), (None, None))[1]
