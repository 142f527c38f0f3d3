"""From a reward config to the functions TRL gets: entries resolved, checked, guarded.

A node of `configs/reward/`:
    funcs: [my_rewards.py:polite, {_target_: rewards.format.regex_format, pattern: ...}]
    weights: [1.0, 0.5]     # or null: all 1
    guard: {timeout: 120}   # options of rewards.guard.guarded, or null: no guard
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.guard import callable_name, guard_of, guarded
from rewards.load import check_signature, load_reward


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
    if len(weights) != len(funcs):
        names = ", ".join(callable_name(func) for func in funcs)
        raise ValueError(f"{len(weights)} reward weights for {len(funcs)} functions ({names}); give one each, or null.")
    values = [float(weight) for weight in weights]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"Reward weights must be finite, got {values}.")
    return values


def instantiated(node: Any) -> Any:
    """Builds `_target_` mappings, inner ones first; lists and other mappings are walked, values returned.

    Raises:
        ValueError: the target does not exist, or does not take these arguments.
    """
    if isinstance(node, Mapping):
        built = {str(key): instantiated(value) for key, value in node.items()}
        return _built(built) if "_target_" in built else built
    if isinstance(node, Sequence) and not isinstance(node, (str, bytes)):
        return [instantiated(value) for value in node]
    return node


def _resolved(entry: Any, cwd: str | Path | None) -> Callable:
    if isinstance(entry, str):
        return load_reward(entry, cwd)
    if isinstance(entry, Mapping):
        if "_target_" not in entry:
            raise ValueError(f"A reward entry needs `_target_`, got the keys {', '.join(map(str, entry))}.")
        entry = instantiated(entry)
    if not _is_module(entry):
        check_signature(entry, callable_name(entry))
    return entry


def _built(node: dict[str, Any]) -> Any:
    target = node.pop("_target_")
    arguments = node.pop("_args_", [])
    module_name, _, name = str(target).rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"_target_ {target!r} does not import: {error}") from None
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        raise ValueError(f"{module_name} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
    try:
        return getattr(module, name)(*arguments, **node)
    except TypeError as error:
        raise ValueError(f"_target_ {target!r}: {error}") from None


def _is_module(func: Any) -> bool:
    return hasattr(func, "state_dict") and hasattr(func, "forward")
