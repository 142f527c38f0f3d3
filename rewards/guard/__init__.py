"""A guard round a reward function: whatever it does, every row gets a number or None, and it is counted."""

from rewards.guard.guard import (
    Guard,
    callable_name,
    check_failures,
    guard_of,
    guarded,
    is_async,
    report_failures,
    stateful,
)

__all__ = [
    "Guard",
    "callable_name",
    "check_failures",
    "guard_of",
    "guarded",
    "is_async",
    "report_failures",
    "stateful",
]
