"""Whether an environment will say what was earned, seen before it was played."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

_NOTED = "rewards"


def may_pay(environment: Any) -> bool:
    """False where neither the environment nor a class that it inherits from has `get_reward` or `turn_rewards`, or ever names
    `rewards`. `self.rewards` may first be set while it is played, so the compiled code is read: it is there without a source, in a
    notebook and after `exec`. What is compiled to machine code may pay."""
    if any(callable(getattr(environment, each, None)) for each in ("get_reward", "turn_rewards")):
        return True
    if hasattr(environment, _NOTED) or hasattr(type(environment), _NOTED):  # the second: of `__slots__`
        return True
    own = [value for kind in type(environment).__mro__[:-1] for value in vars(kind).values() if _is_method(value)]
    return any(_NOTED in names for value in own for names in _names(value, set()))


def _is_method(value: Any) -> bool:
    return isinstance(value, (staticmethod, classmethod, property)) or (callable(value) and not isinstance(value, type))


def _names(thing: Any, seen: set[int]) -> Iterator[set[str]]:
    """The names in each piece of code that makes up a method: its own, of what a decorator has wrapped, of functions in it."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, types.CodeType):
        texts = {text for text in thing.co_consts if isinstance(text, str)}  # setattr(self, "rewards", ...)
        yield {*thing.co_names, *texts}
        inner: list[Any] = [each for each in thing.co_consts if isinstance(each, types.CodeType)]
    elif isinstance(thing, types.FunctionType):
        inner = [thing.__code__]
        for cell in thing.__closure__ or ():
            with contextlib.suppress(ValueError):  # an empty one
                inner += [cell.cell_contents] if _is_method(cell.cell_contents) else []
    elif isinstance(thing, property):
        inner = [thing.fget, thing.fset]
    elif (function := getattr(thing, "__func__", None) or getattr(thing, "func", None)) is not None:
        inner = [function]
    else:
        if isinstance(thing, types.BuiltinFunctionType) or type(thing).__name__ == "cython_function_or_method":
            yield {_NOTED}
        return
    for each in inner:
        yield from _names(each, seen)
