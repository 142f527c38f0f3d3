"""Whether what the policy called a tool with fits the tool: a call that does not is the policy's mistake, not the environment's."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def binds(function: Callable, args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether the function can be called so at all."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def are_of_their_types(function: Callable, kwargs: Mapping[str, Any]) -> bool:
    """Whether each argument is what its type hint says; a hint that cannot be read, or is not known here, fits everything."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a hint that names nothing
        return True
    return all(name not in hints or _fits(value, hints[name]) for name, value in kwargs.items())


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Annotated:
        return _fits(value, inner[0])
    if origin is typing.Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    kind = hint if origin is None else origin
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool):
        return isinstance(value, kind)
    if kind in (list, tuple, set, Sequence):
        items = inner[0] if len(inner) == 1 or (len(inner) == 2 and inner[1] is ...) else Any
        return isinstance(value, (list, tuple)) and all(_fits(each, items) for each in value)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and (len(inner) < 2 or all(_fits(each, inner[1]) for each in value.values()))
    return True


def cannot_be_called(function: Callable) -> str | None:
    """Why a policy, which calls by name, can never call a tool rightly, or not all of it; None if it can."""
    parameters = list(inspect.signature(function).parameters.values())
    by_place = [each.name for each in parameters if each.kind == each.POSITIONAL_ONLY and each.name != "self"]
    if by_place:
        return f"takes {', '.join(by_place)} by position only, and a policy calls by name: leave out the `/`"
    loose = [str(each) for each in parameters if each.kind not in (*_BY_NAME, inspect.Parameter.POSITIONAL_ONLY)]
    if loose:
        return f"takes {', '.join(loose)}, which no policy can be told of: name each parameter, with a type hint"
    return None
