"""How a reward function says that one row went wrong, without giving up the others.

`report_failure(row, kind, detail)` inside a reward function marks a row as failed (the function returns None for it).
Under a guard (`rewards.guard`) the failure is counted and logged as `rewards/<name>/failed`; without one it is logged
once per kind, and the row is simply not scored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

_log = logging.getLogger("rewards")
_collector: ContextVar[list[Failure] | None] = ContextVar("reward_failures", default=None)
_told: set[str] = set()


class Failure(NamedTuple):
    """Row `row` of the call could not be scored. `kind`: exception, timeout, not_finite, wrong_type."""

    row: int
    kind: str
    detail: str


def report_failure(row: int, kind: str, detail: str) -> None:
    """Counts row `row` (index within the call) as failed. Safe to call from any thread that carries the context."""
    collector = _collector.get()
    if collector is not None:
        collector.append(Failure(row, kind, detail))
    elif detail not in _told:
        _told.add(detail)
        _log.warning("A reward could not score a row (%s): %s. Said once.", kind, detail)


@contextmanager
def collected_failures() -> Iterator[list[Failure]]:
    """Collects what `report_failure` is told inside the block."""
    failures: list[Failure] = []
    token = _collector.set(failures)
    try:
        yield failures
    finally:
        _collector.reset(token)
