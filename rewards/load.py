"""Custom rewards by name: "my_rewards.py:polite" (a file) or "my_package.rewards.polite" (an importable name).

Everything that can be wrong is found here, before any model is loaded: the file, the name, the signature.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from rewards.likelihood import REFERENCE
from rewards.text.opened import COLUMN
from userio.namesakes import taken, taken_by
from userio.own_files import load_file, member, on_path

# What TRL and CreditGRPOTrainer pass besides the columns of the dataset.
_OF_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
GIVEN = (*_OF_TRL, COLUMN, REFERENCE)
_EXPECTED = "def reward(prompts, completions, **columns) -> list[float | None]"


def load_reward(spec: str, cwd: str | Path | None = None) -> Callable:
    """The function that `spec` names, with its signature checked.

    Args:
        spec: "path/to/file.py:name" or "package.module.name".
        cwd: where a relative path starts, and a place to import packages from; default the current directory.

    Returns:
        The function as it is. Where it takes attributes, `reward_source = (spec, cwd)` tells a worker process how to
        get it again.

    Raises:
        ValueError: no such file, module or name, it does not import, or it cannot be called as a reward.
    """
    folder = Path(cwd) if cwd is not None else Path.cwd()
    func = named(spec, folder)
    check_signature(func, spec)
    if inspect.isfunction(func):
        func.reward_source = (spec, str(folder))  # type: ignore[attr-defined]
    return func


def named(spec: str, cwd: str | Path | None = None) -> Any:
    """Whatever "path/to/file.py:name" or "package.module.name" names: a function, a class, an object.

    Raises:
        ValueError: no such file, module or name, or it does not import.
    """
    folder = Path(cwd) if cwd is not None else Path.cwd()
    path, colon, name = spec.rpartition(":")
    if colon:
        if not name or not path:
            raise ValueError(f"Write what stands in a file as file.py:function, got {spec!r}.")
        return member(load_file(folder / path, name), name, path)
    if spec.endswith(".py"):
        raise ValueError(f"{spec} names a file only. Say what in it is meant: {spec}:NAME.")
    where, _, name = spec.rpartition(".")
    if not where or not name:
        raise ValueError(f"{spec!r} is neither file.py:function nor package.module.function.")
    return member(_importable(where, name, spec, folder), name, where, taken(where, folder))


def check_signature(func: Any, spec: str) -> None:
    """Whether TRL can call it: with the keywords prompts, completions, completion_ids and every dataset column.

    Raises:
        ValueError: it cannot; the message shows the signature to write.
    """
    if inspect.isclass(func):
        raise ValueError(
            f"Reward {spec!r} is a class. Give an instance: in a YAML under configs/reward/, `_target_: {spec}` with "
            "its arguments, or a module-level object made from it."
        )
    if not callable(func):
        raise ValueError(f"Reward {spec!r} is {type(func).__name__}, not a function. Expected: {_EXPECTED}")
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return  # a built-in without a signature: nothing to check
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise ValueError(
                f"Reward {spec!r} has the positional-only parameter {parameter.name!r}; TRL calls rewards by keyword. "
                f"Expected: {_EXPECTED}"
            )
    names = {parameter.name for parameter in parameters}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise ValueError(
            f"Reward {spec!r} takes ({', '.join(parameter.name for parameter in parameters)}) and no **columns, but is "
            f"called with every dataset column. Expected: {_EXPECTED}"
        )
    if not names & {"completions", "completion_ids"}:
        near = difflib.get_close_matches("completions", names, n=1)
        hint = f" (is {near[0]!r} meant to be 'completions'?)" if near else ""
        raise ValueError(f"Reward {spec!r} has no parameter 'completions'{hint}. Expected: {_EXPECTED}")


def check_columns(func: Any, name: str, columns: Iterable[str]) -> None:
    """Whether the dataset has the columns that the function cannot do without.

    Raises:
        ValueError: one is missing; the nearest of those there are is named.
    """
    there = sorted(set(columns) - {"prompt", "completion"})
    if bound := sorted(set(getattr(func, "keywords", None) or ()) & set(there)):
        raise ValueError(
            f"Reward {name!r} has the argument {bound[0]!r} of its own, and the dataset a column of that name, which would "
            f"take its place. Rename the column, or leave it out (task.drop_columns=[{bound[0]}])."
        )
    for column in needed_columns(func):
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there) or 'none'}."
            raise ValueError(
                f"Reward {name!r} needs the dataset column {column!r}; {hint} Rename the column in the dataset, or "
                "tell the reward which one to read."
            )


def needed_columns(func: Any) -> list[str]:
    """Dataset columns the function cannot be called without: what a reward of this package reads, and parameters
    without a default of any other function."""
    func = getattr(getattr(func, "guard", func), "func", func) if not isinstance(func, functools.partial) else func
    if (inner := getattr(func, "rewards", None)) is not None:  # a composition
        return list(dict.fromkeys(column for reward in inner for column in needed_columns(reward)))
    if (wanted := getattr(func, "columns", None)) is not None:
        return [column for column in wanted if column not in GIVEN]
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in GIVEN
    ]


def _importable(where: str, name: str, spec: str, folder: Path) -> ModuleType:
    with on_path(folder):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if hint := taken_by(error, folder):
                raise ValueError(f"{spec!r}: {error}{hint}.") from error
            raise ValueError(
                f"{spec!r}: no module {error.name!r} to import, neither installed nor under {folder}. A file is "
                f"named with a colon: {where.replace('.', '/')}.py:{name}"
            ) from None
        except Exception as error:
            hint = taken_by(error, folder)
            raise ValueError(f"Module {where!r} does not import: {type(error).__name__}: {error}{hint}") from error
