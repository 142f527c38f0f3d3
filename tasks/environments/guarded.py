"""A guard round an environment: whatever it does, the rollout ends, and a fault costs its own row only.

An environment is what TRL's `environment_factory` makes: `reset(**row)` begins a rollout and may add to the prompt, every public
method is a tool for the policy, `get_reward()` pays at the end. Here it may also have

    rewards          list with a number for every call it ran (None: 0), or {number of the call: number}
    turn_rewards()   a number for every turn of the policy, or {turn: number}; instead of `rewards`
    state_key()      what the policy knows of the game: equal keys, equal states (credit/turns/spreads.py, GiGPO)

The last two are no tools. A `ValueError`, wrong arguments, and whatever is raised for arguments of other types than the tool's
hints are an answer to the policy, as in TRL. Anything else that goes wrong (another exception, `SystemExit` too, a call that takes
too long, a result that is no text, too much of it, or not to be encoded) is a fault: the policy is told that the call failed, and
no reward function scores the row.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from rewards.guard.clock import run_within
from tasks.environments.arguments import are_of_their_types, binds
from tasks.environments.awaiting import awaited_within
from tasks.environments.noise import policy_keeps_its_noise
from tasks.environments.notes import count_noted, fresh_notes, notes_of, spoil, state_number
from tasks.environments.shown import Unusable, as_shown, is_blocks

logger = logging.getLogger(__name__)

NO_TOOLS = ("reset", "get_reward", "turn_rewards", "state_key")
_RUNNING: ContextVar[tuple[int, ...]] = ContextVar("environments whose methods are running", default=())


class Fault(RuntimeError):
    """What the policy reads of a call that went wrong by the environment's doing."""


def guard_environment(
    environment: Any, seconds: float | None = 30.0, pays_here: bool = False, sums: bool = False
) -> Any:
    """The same object, as an instance of a subclass of its class whose methods are guarded.

    Args:
        pays_here: TRL is not to find `get_reward`; an `EnvironmentReward` among the reward functions asks for it.
        sums: as in `guarded_factory`.
    """
    kind = type(environment)
    sums = sums and not callable(getattr(kind, "get_reward", None)) and _told(environment) is not None
    if not getattr(kind, "_apportion_guarded", False):
        try:
            object.__setattr__(
                environment, "__class__", _guarded(kind, seconds, pays_here, sums)
            )  # frozen dataclasses, too
        except TypeError as error:  # a class that is not of Python
            logger.warning("Environment %r cannot be guarded (%s); a fault in it ends the run.", kind.__name__, error)
    return environment


def tool_names(kind: type) -> list[str]:
    """The methods of an environment's class that the policy may call, as TRL finds them."""
    members = inspect.getmembers(kind, predicate=inspect.isfunction)
    return [name for name, _ in members if name not in NO_TOOLS and not name.startswith("_")]


@lru_cache(maxsize=64)
def _guarded(kind: type, seconds: float | None, pays_here: bool, sums: bool) -> type:
    methods: dict[str, Any] = {"_apportion_guarded": True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    methods["__slots__"] = ()  # the memory of the class it stands for, `__slots__` or not
    methods |= {name: _tool(name, _as_method(kind, name), seconds) for name in tool_names(kind)}
    if callable(getattr(kind, "reset", None)):
        methods["reset"] = _reset(kind.reset, seconds)
    if callable(getattr(kind, "get_reward", None)):
        pays = _pays(kind.get_reward, seconds)
        methods["get_reward"] = _Hidden(pays) if pays_here else pays
    elif sums:
        methods["get_reward"] = _pays(_sum_of_turns, seconds)
    methods |= {name: _Hidden(getattr(kind, name)) for name in NO_TOOLS[2:] if callable(getattr(kind, name, None))}
    return type(kind.__name__, (kind,), methods)


def _told(environment: Any) -> Any:
    """What the environment says of its turns or calls, or the method that will; None: it does not say."""
    method = getattr(environment, "turn_rewards", None)
    noted = getattr(environment, "rewards", None)
    return method if callable(method) else None if callable(noted) else noted


def told_once(environment: Any) -> Any:
    """What `turn_rewards()` says. It is asked once after the last call of a rollout, for the reward, the credit and the record."""
    if not getattr(type(environment), "_apportion_guarded", False):  # nobody notes its calls
        return environment.turn_rewards()
    notes = notes_of(environment)
    if notes.told is None or notes.told[0] != len(notes.calls):
        notes.told = len(notes.calls), environment.turn_rewards()
    return notes.told[1]


def _sum_of_turns(self: Any) -> float:
    told = _told(self)
    told = told_once(self) if callable(told) else told
    values = told.values() if isinstance(told, Mapping) else told or ()
    return sum(0.0 if value is None else float(value) for value in values)


class _Hidden:
    """A method that TRL does not take for a tool: it looks for plain functions on the class."""

    def __init__(self, function: Callable):
        self.function = function

    def __get__(self, instance: Any, kind: type | None = None) -> Any:
        return self if instance is None else functools.partial(self.function, instance)


def _as_method(kind: type, name: str) -> Callable:
    """The function of a tool, with `self` first; a static one gets a `self` that it does not read."""
    function = getattr(kind, name)
    if not isinstance(inspect.getattr_static(kind, name), staticmethod):
        return function

    @functools.wraps(function)
    def method(self, *args, **kwargs):
        return function(*args, **kwargs)

    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(function)
    method.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    return method


def _tool(name: str, function: Callable, seconds: float | None) -> Callable:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def tool_async(self, /, *args, **kwargs):
            if _is_inside(self):
                return await function(self, *args, **kwargs)
            call, notes_of(self).loop = _open(self, name, function, args, kwargs), asyncio.get_running_loop()
            try:
                with _inside(self):
                    result = as_shown(await awaited_within(seconds, function(self, *args, **kwargs)))
            except BaseException as error:
                raise _judged(self, name, error, seconds, are_of_their_types(function, kwargs)) from error
            return _closed(self, name, call, result, seconds)

        return tool_async

    @functools.wraps(function)
    def tool(self, /, *args, **kwargs):
        if _is_inside(self):
            return function(self, *args, **kwargs)
        call = _open(self, name, function, args, kwargs)
        try:
            result = _within(
                self, seconds, lambda: _counted(self, call, lambda: as_shown(function(self, *args, **kwargs)))
            )
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            raise _judged(self, name, error, seconds, are_of_their_types(function, kwargs)) from error
        return _closed(self, name, call, result, seconds)

    return tool


def _counted(self: Any, call: int, run: Callable[[], Any]) -> Any:
    """`run()`; how many rewards the environment noted meanwhile is noted."""
    before = count_noted(self)
    try:
        return run()
    finally:
        after = count_noted(self)
        if before is not None and after is not None:
            notes_of(self).grown[call] = after - before


def _open(self: Any, name: str, function: Callable, args: tuple, kwargs: dict) -> int:
    """Notes the call and returns its number. Raises what the policy is to read: of arguments that do not fit, of a spoilt
    environment."""
    notes = notes_of(self)
    notes.calls.append((name, False))
    try:
        if notes.fault is not None:
            raise Fault("the environment does not answer")
        if not binds(function, (self, *args), kwargs):
            function(self, *args, **kwargs)  # Python's own words for it, which are TRL's answer to the policy, too
    except (TypeError, Fault) as error:
        notes.grown[len(notes.calls) - 1] = 0
        _note_state(self, None)
        raise (error if isinstance(error, Fault) else ValueError(str(error))) from None
    return len(notes.calls) - 1


def _judged(self: Any, name: str, error: BaseException, seconds: float | None, well_typed: bool) -> BaseException:
    """What to raise for an error of a tool, after it was noted."""
    _note_state(self, seconds)
    if isinstance(error, Unusable):
        spoil(self, "wrong_type", f"{name} returned {error}")
    elif isinstance(error, ValueError):
        return error
    elif isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        spoil(
            self,
            "timeout",
            f"{name} took more than {seconds:g} s" if seconds is not None else f"{name}: {error!r:.200}",
        )
    elif isinstance(error, Exception) and not well_typed:
        return error
    else:
        spoil(self, "exception", f"{name}: {error!r:.200}")
    return Fault(f"{name} failed")


def _closed(self: Any, name: str, call: int, result: str, seconds: float | None) -> str:
    """The result, after it was noted. Async calls of one turn end in any order."""
    notes_of(self).calls[call] = (name, True)
    _note_state(self, seconds)
    return result


def _reset(function: Callable, seconds: float | None) -> Callable:
    @functools.wraps(function)
    def reset(self, /, *args, **kwargs):
        if _is_inside(self):
            return function(self, *args, **kwargs)
        notes = fresh_notes(self)
        if notes.stillborn is not None:
            spoil(self, "exception", notes.stillborn)
            return None
        try:
            said = _within(self, seconds, lambda: function(self, *args, **kwargs))
            if said is not None:
                said = _within(self, seconds, lambda: _begun(said))
            if left := _within(self, seconds, lambda: count_noted(self, earned=True)):
                spoil(self, "leak", f"reset left {left} rewards of the rollout before; it must clear them")
        except KeyboardInterrupt:  # the user's
            raise
        except Unusable as error:
            spoil(self, "wrong_type", f"reset returned {error}")
            return None
        except BaseException as error:
            spoil(self, "timeout" if isinstance(error, TimeoutError) else "exception", f"reset: {error!r:.200}")
            return None
        _note_state(self, seconds)
        return said

    return reset


def _begun(said: Any) -> str:
    """What `reset` adds to the prompt. Raises Unusable: neither a text nor blocks of it, e.g. a list of messages."""
    if isinstance(said, str) or is_blocks(said):
        return as_shown(said)
    messages = isinstance(said, list) and any(isinstance(part, dict) and "role" in part for part in said)
    what = "a list of messages" if messages else type(said).__name__
    raise Unusable(f"{what}; return the text that the policy is to read, or None")


def _pays(function: Callable, seconds: float | None) -> Callable:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def get_reward_async(self):
            if notes_of(self).fault is not None:
                return None
            try:
                return _number(self, await awaited_within(seconds, function(self)))
            except BaseException as error:
                spoil(self, "exception", f"get_reward: {error!r:.200}")
                return None

        return get_reward_async

    @functools.wraps(function)
    def get_reward(self):
        if _is_inside(self):
            return function(self)
        if notes_of(self).fault is not None:  # it would not count; and what hung once may hang again
            return None
        try:
            return _number(self, _within(self, seconds, lambda: function(self)))
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            spoil(self, "timeout" if isinstance(error, TimeoutError) else "exception", f"get_reward: {error!r:.200}")
            return None

    return get_reward


def _number(self: Any, value: Any) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not abs(number) < float("inf"):
        spoil(self, "not_finite", f"get_reward returned {value!r}")
        return None
    return number


def _note_state(self: Any, seconds: float | None) -> None:
    if notes_of(self).stillborn is not None or not callable(getattr(self, "state_key", None)):
        return
    try:
        key = _within(self, seconds, lambda: state_number(self.state_key()))
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:
        spoil(self, "exception", f"state_key: {error!r:.200}")
        key = 0
    notes_of(self).states.append(key)


def _within(self: Any, seconds: float | None, call: Callable[[], Any]) -> Any:
    """`call()` within the time, the environment's own calls of its methods left alone, and the policy's random numbers too."""
    own = notes_of(self).numbers
    with policy_keeps_its_noise(type(self).__name__), _inside(self), nullcontext() if own is None else own.used():
        return run_within(seconds, call)


@contextmanager
def _inside(self: Any) -> Iterator[None]:
    """One of the environment's methods is running in this thread or task; only the outermost is guarded."""
    token = _RUNNING.set((*_RUNNING.get(), id(self)))
    try:
        yield
    finally:
        _RUNNING.reset(token)


def _is_inside(self: Any) -> bool:
    return id(self) in _RUNNING.get()
