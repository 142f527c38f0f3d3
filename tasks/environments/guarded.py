"""A guard round an environment: whatever it does, the rollout ends, and a fault costs its own row only.

An environment is what TRL's `environment_factory` makes: `reset(**row)` begins a rollout and may add to the prompt, every public
method is a tool for the policy, `get_reward()` pays at the end. Here it may also have

    rewards          list with a number for every call it ran (None: 0), or {number of the call: number}
    turn_rewards()   a number for every turn of the policy, or {turn: number}; instead of `rewards`
    state_key()      what the policy knows of the game: equal keys, equal states (credit/turns/spreads.py, GiGPO)

The last two are no tools. A `ValueError` or wrong arguments are an answer to the policy, as in TRL. Anything else that goes wrong
(another exception, a call that takes too long, a result that is no text, too much of it, or not to be encoded) is a fault: the
policy is told that the call failed, and no reward function scores the row.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from rewards.guard.clock import run_within
from tasks.environments.notes import fresh_notes, notes_of, spoil, state_number

logger = logging.getLogger(__name__)

NO_TOOLS = ("reset", "get_reward", "turn_rewards", "state_key")
MOST_CHARACTERS = 100_000
_RUNNING: ContextVar[tuple[int, ...]] = ContextVar("environments whose methods are running", default=())


class Fault(RuntimeError):
    """What the policy reads of a call that went wrong by the environment's doing."""


def guarded_factory(factory: Any, seconds: float | None = 30.0, sums: bool = False) -> Any:
    """The factory (or each of a mapping of them), whose environments are guarded.

    Args:
        seconds: one call may take; None: no limit.
        sums: an environment without `get_reward` pays the sum of what its turns earned.

    Raises:
        ValueError: no factory; later, when it is called, one that gives the same object twice.
    """
    if isinstance(factory, Mapping):
        return {name: guarded_factory(each, seconds, sums) for name, each in factory.items()}
    if not callable(factory):
        raise ValueError(
            f"environment_factory is {type(factory).__name__}, not a class or a function that makes an environment, or a dict of them."
        )
    made: list[Any] = []

    def make() -> Any:
        environment = factory()
        if made and environment is made[-1]:
            raise ValueError(
                f"environment_factory gives the same {type(environment).__name__} twice; each rollout needs one of its own. Give the "
                "class, or a function that makes a new one."
            )
        made[:] = [environment]
        return guard_environment(environment, seconds, sums=sums)

    return make


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
        async def tool_async(self, *args, **kwargs):
            if _is_inside(self):
                return await function(self, *args, **kwargs)
            call, notes_of(self).loop = _open(self, name, function, args, kwargs), asyncio.get_running_loop()
            try:
                with _inside(self):
                    result = await asyncio.wait_for(function(self, *args, **kwargs), seconds)
            except BaseException as error:
                raise _judged(self, name, error, seconds) from error
            return _closed(self, name, call, result, seconds)

        return tool_async

    @functools.wraps(function)
    def tool(self, *args, **kwargs):
        if _is_inside(self):
            return function(self, *args, **kwargs)
        call = _open(self, name, function, args, kwargs)
        try:
            result = _within(self, seconds, lambda: function(self, *args, **kwargs))
        except Exception as error:
            raise _judged(self, name, error, seconds) from error
        return _closed(self, name, call, result, seconds)

    return tool


def _open(self: Any, name: str, function: Callable, args: tuple, kwargs: dict) -> int:
    """Notes the call and returns its number. Raises what the policy is to read: of arguments that do not fit, of a spoilt
    environment."""
    notes = notes_of(self)
    notes.calls.append((name, False))
    try:
        if notes.fault is not None:
            raise Fault("the environment does not answer")
        if not _fits(function, self, args, kwargs):
            function(self, *args, **kwargs)  # Python's own words for it, which are TRL's answer to the policy, too
    except (TypeError, Fault) as error:
        _note_state(self, None)
        raise (error if isinstance(error, Fault) else ValueError(str(error))) from None
    return len(notes.calls) - 1


def _fits(function: Callable, self: Any, args: tuple, kwargs: dict) -> bool:
    try:
        inspect.signature(function).bind(self, *args, **kwargs)
    except TypeError:
        return False
    return True


def _judged(self: Any, name: str, error: BaseException, seconds: float | None) -> BaseException:
    """What to raise for an error of a tool, after it was noted."""
    _note_state(self, seconds)
    if isinstance(error, ValueError) or not isinstance(error, Exception):
        return error
    kind = "timeout" if isinstance(error, (TimeoutError, asyncio.TimeoutError)) else "exception"
    detail = f"{name} took more than {seconds:g} s" if kind == "timeout" else f"{name}: {error!r:.200}"
    spoil(self, kind, detail)
    return Fault(f"{name} failed")


def _closed(self: Any, name: str, call: int, result: Any, seconds: float | None) -> Any:
    """The result as TRL can use it, after it was noted. Async calls of one turn end in any order."""
    notes_of(self).calls[call] = (name, True)
    _note_state(self, seconds)
    if (wrong := _unusable(result)) is not None:
        spoil(self, "wrong_type", f"{name} returned {wrong}")
        raise Fault(f"{name} failed")
    return result


def _unusable(result: Any) -> str | None:
    """Why a tool's result cannot be shown to the policy; None if it can."""
    if result is None:
        return 'None; return "" to say nothing'
    if isinstance(result, list) and any(isinstance(part, dict) and "type" in part for part in result):
        kinds = {part.get("type") if isinstance(part, dict) else type(part).__name__ for part in result}
        return None if kinds == {"text"} else f"a list with {', '.join(sorted(map(str, kinds)))}"
    if not isinstance(result, (str, numbers.Number, list, tuple, dict)):
        return f"{type(result).__name__}, which is no text"
    text = str(result)
    if len(text) > MOST_CHARACTERS:
        return f"{len(text)} characters, more than {MOST_CHARACTERS}"
    return None if _encodes(text) else "text that cannot be encoded (a lone surrogate)"


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _reset(function: Callable, seconds: float | None) -> Callable:
    @functools.wraps(function)
    def reset(self, *args, **kwargs):
        if _is_inside(self):
            return function(self, *args, **kwargs)
        fresh_notes(self)
        try:
            shown = _within(self, seconds, lambda: function(self, *args, **kwargs))
        except Exception as error:
            spoil(self, "timeout" if isinstance(error, TimeoutError) else "exception", f"reset: {error!r:.200}")
            return None
        _note_state(self, seconds)
        if shown is not None and (not isinstance(shown, (str, list)) or (wrong := _unusable(shown)) is not None):
            spoil(
                self,
                "wrong_type",
                f"reset returned {wrong if isinstance(shown, (str, list)) else type(shown).__name__}",
            )
            return None
        return shown

    return reset


def _pays(function: Callable, seconds: float | None) -> Callable:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def get_reward_async(self):
            if notes_of(self).fault is not None:
                return None
            try:
                return _number(self, await asyncio.wait_for(function(self), seconds))
            except Exception as error:
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
        except Exception as error:
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
    if not callable(getattr(self, "state_key", None)):
        return
    try:
        key = state_number(_within(self, seconds, self.state_key))
    except Exception as error:
        spoil(self, "exception", f"state_key: {error!r:.200}")
        key = 0
    notes_of(self).states.append(key)


def _within(self: Any, seconds: float | None, call: Callable[[], Any]) -> Any:
    """`call()` within the time, the environment's own calls of its methods left alone."""
    numbers = notes_of(self).numbers
    with _inside(self), nullcontext() if numbers is None else numbers.used():
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
