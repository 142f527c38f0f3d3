"""From a reward config to the functions TRL gets: entries resolved, checked, guarded.

A node of `configs/reward/`:
    funcs: [my_rewards.py:polite, {_target_: rewards.format.regex_format, pattern: ...}]
    weights: [1.0, 0.5]     # or null: all 1
    guard: {timeout: 120}   # options of rewards.guard.guarded, or null: no guard
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.guard import callable_name, guard_of, guarded
from rewards.load import check_columns, check_signature, load_reward, named


def resolve_rewards(funcs: Sequence[Any], cwd: str | Path | None = None) -> list[Callable]:
    """Callables for a list whose entries are callables, names (rewards/load.py) or mappings with `_target_`.

    Raises:
        ValueError: an entry that is none of these or cannot be found, no entries, or two of the same name (their logs
            would be mixed).
    """
    if isinstance(funcs, (str, Mapping)) or callable(funcs):
        funcs = [funcs]
    if not funcs:
        raise ValueError("No reward functions. Give reward.funcs=[file.py:function] or choose reward=<name>.")
    resolved = [_resolved(entry, cwd) for entry in funcs]
    names = [callable_name(func) for func in resolved]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Two reward functions are called {twice[0]!r}, so their logs would be mixed. Give one of them a name of "
            "its own (`name:` in the YAML, or `def`)."
        )
    return resolved


def guard_rewards(funcs: Sequence[Callable], options: Mapping[str, Any] | None) -> list[Callable]:
    """Every function guarded with the same options; None: as they are. Functions that are guarded already, and reward
    models (torch modules, which TRL runs itself), are left alone.

    Raises:
        ValueError: an unknown option; names the nearest one.
    """
    if options is None:
        return list(funcs)
    known = [name for name in inspect.signature(guarded).parameters if name != "func"]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(str(option), known, n=1)
            raise ValueError(
                f"No guard option {option!r}" + (f"; did you mean {near[0]!r}?" if near else f": {', '.join(known)}.")
            )
    return [func if guard_of(func) or _is_module(func) else guarded(func, **options) for func in funcs]


def check_weights(weights: Sequence[float] | None, funcs: Sequence[Callable]) -> list[float] | None:
    """The weights as floats; None stays None (all 1).

    Raises:
        ValueError: not one finite number per function.
    """
    if weights is None:
        return None
    if not isinstance(weights, Sequence) or not all(isinstance(weight, (int, float)) for weight in weights):
        raise ValueError(f"reward.weights must be a list of numbers, or null, got {weights!r}.")
    if len(weights) != len(funcs):
        names = ", ".join(callable_name(func) for func in funcs)
        raise ValueError(f"{len(weights)} reward weights for {len(funcs)} functions ({names}); give one each, or null.")
    values = [float(weight) for weight in weights]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"Reward weights must be finite, got {values}.")
    return values


def check_reward_columns(funcs: Sequence[Callable], columns: Iterable[str]) -> None:
    """Whether the dataset has every column the functions need.

    Raises:
        ValueError: one is missing.
    """
    for func in funcs:
        if not _is_module(func):
            check_columns(func, callable_name(func), columns)


def instantiated(node: Any, cwd: str | Path | None = None) -> Any:
    """Builds `_target_` mappings, inner ones first; lists and other mappings are walked, values returned. Rewards only, which
    are scored without Hydra and may be functions of a file; all else is built by configs/compose.py.

    A target is a class or a factory ("package.module.name" or "file.py:name"), which is called with the other keys. A
    target that is itself a reward function, or stands beside `_partial_: true`, gets the other keys bound.

    Raises:
        ValueError: the target does not exist, or does not take these arguments; a value left open as ???.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if value == "???":
                raise ValueError(
                    f"{key!r} of {node.get('_target_', 'a reward')} is not set: {key}: ... in the YAML, or "
                    f"reward.funcs.0.{key}=... on the command line."
                )
        built = {str(key): instantiated(value, cwd) for key, value in node.items()}
        return _built(built, cwd) if "_target_" in built else built
    if isinstance(node, Sequence) and not isinstance(node, (str, bytes)):
        return [instantiated(value, cwd) for value in node]
    return node


def _resolved(entry: Any, cwd: str | Path | None) -> Callable:
    if isinstance(entry, str):
        return load_reward(entry, cwd)
    if isinstance(entry, Mapping):
        if "_target_" not in entry:
            raise ValueError(f"A reward entry needs `_target_`, got the keys {', '.join(map(str, entry))}.")
        entry = instantiated(entry, cwd)
    if not _is_module(entry):
        check_signature(entry, callable_name(entry))
    return entry


def _built(node: dict[str, Any], cwd: str | Path | None) -> Any:
    target = str(node.pop("_target_"))
    arguments = node.pop("_args_", [])
    partial = node.pop("_partial_", False)
    made = named(target, cwd)
    if _is_reward_function(made):
        return _bound(made, target, node)
    try:
        return functools.partial(made, *arguments, **node) if partial else made(*arguments, **node)
    except TypeError as error:
        raise ValueError(f"_target_ {target!r}: {error}") from None


def _is_reward_function(made: Any) -> bool:
    return inspect.isroutine(made) and "completions" in _parameters(made)


def _bound(func: Callable, target: str, arguments: dict[str, Any]) -> Callable:
    """The function with its arguments, under its own name or `name`."""
    known = _parameters(func)
    name = func.__name__ if "name" in known else arguments.pop("name", func.__name__)
    for argument in arguments:
        # **columns would take it without a word.
        if argument not in known:
            near = difflib.get_close_matches(argument, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known)}."
            raise ValueError(f"_target_ {target!r} has no argument {argument!r}; {hint}")
    bound = functools.partial(func, **arguments)
    bound.__name__ = name  # type: ignore[attr-defined]
    return bound


def _parameters(func: Callable) -> list[str]:
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def _is_module(func: Any) -> bool:
    return hasattr(func, "state_dict") and hasattr(func, "forward")
