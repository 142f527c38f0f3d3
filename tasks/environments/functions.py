"""A guard round a tool that is a plain function: the policy reads a text, or that the call failed, and nobody waits."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from rewards.guard.clock import run_within
from tasks.environments.arguments import are_of_their_types, binds
from tasks.environments.awaiting import awaited_within
from tasks.environments.noise import policy_keeps_its_noise
from tasks.environments.shown import Unusable, as_shown

_log = logging.getLogger("rewards")
_told: set[tuple[str, str]] = set()


class Failed(RuntimeError):
    """What the policy reads of a call that went wrong by the tool's doing."""


def guarded_function(function: Any, seconds: float | None = 30.0) -> Any:
    """The tool with its name, signature and docstring. What it raises for arguments that do not fit, and a `ValueError`, are an answer
    to the policy; for anything else that goes wrong, and for a result that is no text, the policy is told that the call
    failed, and the log has the reason, once for each kind. The row is scored: reward functions see the failed call.

    Args:
        seconds: a call may take; None: no limit.
    """
    if not callable(function) or isinstance(function, type):
        return function  # TRL's to refuse
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def guarded_async(*args, **kwargs):
            try:
                return as_shown(await awaited_within(seconds, function(*args, **kwargs)))
            except BaseException as error:
                raise _judged(function, name, args, kwargs, error) from error

        return guarded_async

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        try:
            with policy_keeps_its_noise(name):
                return run_within(seconds, lambda: as_shown(function(*args, **kwargs)))
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            raise _judged(function, name, args, kwargs, error) from error

    return guarded


def _judged(function: Callable, name: str, args: tuple, kwargs: dict, error: BaseException) -> BaseException:
    fits = binds(function, args, kwargs) and are_of_their_types(function, kwargs)
    if isinstance(error, ValueError) or (isinstance(error, Exception) and not isinstance(error, Unusable) and not fits):
        return error
    reason = f"returned {error}" if isinstance(error, Unusable) else repr(error)[:200]
    if (name, type(error).__name__) not in _told:
        _told.add((name, type(error).__name__))
        _log.warning(
            "Tool %r went wrong: %s. The policy was told that the call failed; tools/failure_frequency counts such calls. Said once for "
            "each kind.",
            *(name, reason),
        )
    return Failed(f"{name} failed")
