"""From the words of a command to the axes of a sweep: what is listed, and what each value of another axis has of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep

from compare.sweep.cells import Axis
from configs.command_line.overrides import parse_overrides
from configs.command_line.unread import did_you_mean
from configs.compose import CONFIG_DIR
from configs.fields.defaults import COMMANDS, fields_of_command
from userio.words import word_of


def axes_of(overrides: Sequence[Override], config_dirs: Sequence[str], script: str) -> tuple[Axis, ...]:
    """The axes in the order given. A mapping whose keys are values of another axis (`trainer.learning_rate={a:1e-4,b:3e-4}`
    beside `credit=a,b`) gives each of them values of its own.

    Raises:
        ValueError: a choice or a setting that does not exist, a value listed twice, a value that gets none.
    """
    for override in overrides:
        check_name(override, config_dirs, script)
    plain = [axis_of(one, config_dirs) for one in overrides if not isinstance(one.value(), dict)]
    plain.sort(key=lambda axis: axis.key != "credit")  # whose values a mapping is taken for first
    made = {axis.key: axis for axis in plain}
    axes = []
    for override in overrides:
        if isinstance(override.value(), dict):
            axes.append(_own_values(override, plain) or axis_of(override, config_dirs))
        else:
            axes.append(made[override.get_key_element()])
    return tuple(axes)


def axis_of(override: Override, config_dirs: Sequence[str]) -> Axis:
    """The values of one override. Globs are over the YAMLs of a config group."""
    key, line = override.get_key_element(), override.input_line or ""
    choices = _choices_in(key, config_dirs)
    if not override.is_sweep_override():
        values = (word_of(line).text,)
    elif isinstance(override.value(), Glob):
        values = tuple(override.value().filter(choices))  # type: ignore[union-attr]
        if not values:
            raise ValueError(f"{line} matches nothing; there is {', '.join(choices) or 'no such group'}.")
    elif override.is_discrete_sweep():
        values = tuple(override.sweep_string_iterator())
    else:
        raise ValueError(
            f"{line}: an interval has no end of values, so only lists, ranges and globs can be swept; five values at equal "
            f"ratios: {key}='log(1e-5,1e-3,5)'."
        )
    plain = tuple(re.sub(r"\\(\W)", r"\1", value.strip("'\"")) for value in values)  # Hydra escapes a colon
    for value in plain:
        if choices and re.fullmatch(r"[\w\-]+", value) and value not in (*choices, "null"):
            near = did_you_mean(value, choices)
            raise ValueError(f"{key}={value}: no such choice.{near} There is: {', '.join(choices)}.")
    texts = tuple(f"{key}={value}" for value in values) if override.is_sweep_override() else (line,)
    if len(texts) > 1:
        _refuse_twice(key, texts)
    return Axis(key, plain, texts)


def read_arms(path: Path, config_dirs: Sequence[str], script: str) -> dict[str, tuple[Axis, ...]]:
    """A YAML of arms: name -> the words of a command (one text, or a list), or a mapping of settings. Values may be listed
    there as on a command line.

    Raises:
        ValueError: no such file, no mapping, or whatever `axes_of` refuses.
    """
    if not path.is_file():
        raise ValueError(f"arms={path}: no such file. It is a YAML of `name: credit=... trainer.learning_rate=...`.")
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"arms={path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"arms={path} must hold a line for each arm: `name: credit=... trainer.learning_rate=...`.")
    arms: dict[str, tuple[Axis, ...]] = {}
    for name, said in listed.items():
        try:
            arms[str(name)] = axes_of(parse_overrides(_words(said)), config_dirs, script)
        except ValueError as error:
            raise ValueError(f"arms={path}, {name}: {error}") from None
    return arms


def _words(said: Any) -> list[str]:
    if isinstance(said, Mapping):
        return [f"{key}={_text(value)}" for key, value in said.items()]
    words = re.split(r"\s+(?=[+~]*[\w./@]+=)", said.strip()) if isinstance(said, str) else said
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("an arm is written as on a command line: credit=dr_grpo trainer.learning_rate=1e-4")
    return words


def _text(value: Any) -> str:
    """A value of a YAML in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_text(inner)}' for key, inner in value.items())}}}"
    return str(value)


def check_name(override: Override, config_dirs: Sequence[str], script: str) -> None:
    """Raises ValueError: what is set is neither the sweep's nor the training command's. Scripts that are not ours, and
    `+key=`, may take anything."""
    key, command = override.get_key_element(), Path(script).stem
    first = re.split(r"[./@]", key)[0]
    if command not in COMMANDS or key.startswith(("+", "~")):
        return
    own = [field.name for field in fields_of_command(command)]
    groups = {path.name for folder in (CONFIG_DIR, *map(Path, config_dirs)) for path in folder.glob("*/")}
    known = [*own, *sorted(groups - {"fields", "command_line", "accelerate", "__pycache__"})]
    if first not in known:
        sweeps = [field.name for field in fields_of_command("sweep")]
        near = did_you_mean(first, [*sweeps, *known]) or f" There is {', '.join([*sweeps, *known])}."
        raise ValueError(f"{override.input_line}: neither the sweep nor {command}.py has a setting `{first}`.{near}")


def _choices_in(group: str, config_dirs: Sequence[str]) -> list[str]:
    """The YAMLs of a config group, by name."""
    name = group.lstrip("+~").split("@")[0]
    if "." in name:
        return []
    return sorted(
        {path.stem for folder in (CONFIG_DIR, *map(Path, config_dirs)) for path in (folder / name).glob("*.yaml")}
    )


def _own_values(override: Override, axes: Sequence[Axis]) -> Axis | None:
    """The mapping as values of its own for each value of another axis; None if it is simply a mapping."""
    key, line, given = override.get_key_element(), override.input_line or "", dict(override.value())  # type: ignore[call-overload]
    named = [str(name) for name in given]
    by = next((axis for axis in axes if axis.key not in ("seed", key) and set(named) & set(axis.values)), None)
    if by is None:
        _refuse_misspelt(line, named, axes)
        return None
    if odd := next((name for name in named if not _matching(by.values, name)), None):
        raise ValueError(f"{line}: {by.key} is never `{odd}` here.{did_you_mean(odd, by.values)}")
    of = {}
    for value in by.values:
        name = next((name for name in named if name == value), None)
        name = name or next((name for name in named if fnmatchcase(value, name)), None)
        if name is None:
            raise ValueError(
                f"{line}: no value for {by.key}={value}. Add `{value}:...`, or `*:...` for all that are left."
            )
        texts = [f"{key}={text}" for text in _texts(given[_key_of(given, name)], line)]
        if len(texts) > 1:
            _refuse_twice(key, texts)
        of[value] = Axis(key, tuple(word_of(text).text.strip("'\"") for text in texts), tuple(texts))
    return Axis(key, tuple(of), (line,), by.key, of)


def _matching(values: Collection[str], name: str) -> list[str]:
    return [value for value in values if value == name or fnmatchcase(value, name)]


def _key_of(given: Mapping[Any, Any], name: str) -> Any:
    return next(key for key in given if str(key) == name)


def _refuse_misspelt(line: str, named: Sequence[str], axes: Sequence[Axis]) -> None:
    for axis in axes:
        if axis.key == "credit" and len(axis.values) > 1:
            near = [did_you_mean(name, axis.values) for name in named]
            if all(near):
                raise ValueError(f"{line}: credit is never `{named[0]}` here.{near[0]}")


def _texts(value: Any, line: str) -> list[str]:
    """One value, or several: a list, a range, log(...)."""
    if isinstance(value, ChoiceSweep) and not isinstance(value, Glob):
        found = list(value.list)
    elif isinstance(value, RangeSweep):
        found = list(value.range())
    elif isinstance(value, list):
        found = value
    else:
        found = [value]
    if not found:
        raise ValueError(f"{line}: an empty list gives no run.")
    return [Override._get_value_element_as_str(one) for one in found]


def _refuse_twice(key: str, texts: Sequence[str]) -> None:
    """Raises ValueError: two values mean the same (0 and 00, 1e-4 and 0.0001), so that two cells would be one run."""
    seen: dict[str, str] = {}
    for text, override in zip(texts, parse_overrides(texts), strict=True):
        value = override.value()
        if isinstance(value, str) and value.isdigit() and key == "seed":
            value = int(value)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        meaning = f"number {float(value)!r}" if is_number else f"{type(value).__name__} {value}"  # type: ignore[arg-type]
        if meaning in seen:
            raise ValueError(f"{seen[meaning]} and {text} are the same, so two cells would be one run. Give it once.")
        seen[meaning] = text
