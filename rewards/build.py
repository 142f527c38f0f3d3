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


def choose_rewards(overrides: Sequence[str], cwd: str | Path) -> dict[str, Any]:
    """The reward node for overrides as `train_grpo.py` takes them, without Hydra: `reward=<name>`,
    `reward.funcs=[...]`, `reward.funcs.0.pattern=...`. Configs are looked for in ./configs/reward and in this
    repository's.

    Raises:
        ValueError: no such config (names the nearest), or an override of something else.
    """
    node: dict[str, Any] = {"funcs": [], "weights": None, "guard": {}}
    for override in sorted(overrides, key=lambda text: not text.startswith("reward=")):
        key, equals, value = override.partition("=")
        path = key.lstrip("+").split(".")
        if not equals or path[0] != "reward":
            raise ValueError(f"{override!r}: write reward=<name>, or reward.<key>=<value>.")
        if len(path) == 1:
            node = _config(value, Path(cwd))
        else:
            _put(node, path[1:], _yaml(value), override)
    if node["funcs"] == "task":
        raise ValueError(
            "reward=task means the rewards of a task; choose another reward=<name>, or reward.funcs=[...]."
        )
    return node


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


def _config(name: str, cwd: Path) -> dict[str, Any]:
    folders = [cwd / "configs" / "reward", Path(__file__).resolve().parent.parent / "configs" / "reward"]
    for folder in folders:
        if (file := folder / f"{name}.yaml").is_file():
            return _yaml(file.read_text(encoding="utf-8"))
    names = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}."
    raise ValueError(f"There is no reward {name!r} in configs/reward; {hint}")


def _put(node: Any, path: list[str], value: Any, override: str) -> None:
    try:
        for key in path[:-1]:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[int(path[-1]) if isinstance(node, list) else path[-1]] = value
    except (KeyError, IndexError, ValueError, TypeError):
        raise ValueError(f"{override!r}: there is no such place in this reward's config.") from None


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Not YAML: {text[:80]!r} ({error})") from None


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
