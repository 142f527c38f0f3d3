"""What is one's own, by its file, where a choice is expected: `credit=my_credit.py:late`, `credit.spread=my_credit.py:late`.

    credit=file.py:name             a `credit.Strategy`, or what makes one; or a function: one that asks for a signal by
                                    token (`_BT`) is a spread, any other a baseline, and the rest is dr_grpo's
    credit.spread=file.py:name      any one member; so baseline, weight, ratio and critic; package.module.name too
    weight= sampler= task= model=   a function or class in the place of a YAML's `_target_`
    reward=file.py:name             a reward function

The words are put as Hydra takes them, so that settings go on working: `credit=my_credit.py:late credit.spread.power=3`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from configs.command_line.layers import MEMBERS
from configs.command_line.overrides import parse_overrides, quoted
from userio.own_files import importable, is_in_file

PARENT = "dr_grpo"  # whose other members a function of one's own gets
_MADE_WHOLE = ("task", "model")  # nothing of the choice that it replaces is meant for it


@dataclass
class Own:
    """A command with files of one's own.

    Args:
        words: as Hydra takes them.
        names: group -> what the choice is called.
        whole: groups of which the command's own keys are kept alone, and `_target_`.
    """

    words: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)

    def settle(self, config: DictConfig, choices: dict[str, str]) -> None:
        """After composing: takes out what was said of the choice that is replaced, and names the new one."""
        for group in self.whole:
            places = [f"{group}._target_", *(key for word in self.words if (key := _key(word)).startswith(f"{group}."))]
            said = {place: OmegaConf.select(config, place) for place in places}
            with open_dict(config):
                config[group] = {}
                for place, value in said.items():
                    OmegaConf.update(config, place, value, force_add=True)
        choices.update(self.names)


def by_file(words: Sequence[str]) -> Own:
    """The words of a command, with what is named by its file put as Hydra takes it.

    Raises:
        ValueError: no such file or name.
    """
    own = Own()
    for word, override in zip(words, parse_overrides(words), strict=True):
        key, value = override.get_key_element().lstrip("+"), None if override.is_delete() else override.value()
        put = _PLACES.get(key.replace("/", ".").removeprefix("+"))
        if put is None or not isinstance(value, str):
            own.words.append(word)
        elif value.endswith(".py"):
            raise ValueError(f"{word}: say what of the file is meant: {key}={value}:name")
        elif re.fullmatch(r"[\w./-]*\w:\w+", value) and not is_in_file(value):
            raise ValueError(f"{word}: a file is named with its ending, {key}={value.replace(':', '.py:')}")
        elif is_in_file(value) or (put is _member and "." in key and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", value)):
            put(own, key.replace("/", "."), value)
        else:
            own.words.append(word)
    return own


def located(target: str) -> str:
    """A `_target_` as Hydra finds it: what stands in a file gets a dotted name of this process.

    Raises:
        ValueError: no such file or name, or it does not import.
    """
    return importable(target) if is_in_file(target) else target


def with_located(node: Any) -> Any:
    """Plain data with every `_target_` in it as `located`."""
    if isinstance(node, dict):
        return {k: located(v) if k == "_target_" and isinstance(v, str) else with_located(v) for k, v in node.items()}
    return [with_located(entry) for entry in node] if isinstance(node, list) else node


def _member(own: Own, place: str, spec: str) -> None:
    own.words.append(f"{place}._target_={quoted(spec)}")
    if "." not in place:
        own.names[place] = _name(spec)


def _node(own: Own, group: str, spec: str) -> None:
    _member(own, group, spec)
    own.whole.append(group)


def _reward(own: Own, group: str, spec: str) -> None:
    own.words.append(f"{group}.funcs=[{quoted(spec)}]")
    own.names[group] = _name(spec)


def _strategy(own: Own, group: str, spec: str) -> None:
    from credit.strategy import Strategy  # torch, which a command without a file of one's own does not need here

    thing, name = get_object(importable(spec)), _name(spec)
    own.names[group] = name
    is_subclass = inspect.isclass(thing) and issubclass(thing, Strategy)
    asked = [] if isinstance(thing, Strategy) or is_subclass else _signals(thing)
    if not asked and not is_subclass:
        own.words += [f"credit._target_={quoted(spec)}"]
        own.whole.append(group)
        return
    axis = "spread" if any(signal.endswith("_BT") for signal in asked) else "baseline"
    place = "credit" if is_subclass else f"credit.{axis}"
    # First, so that a name of the user's has the last word.
    own.words[:0] = [f"credit={PARENT}", f"{place}._target_={quoted(spec)}", f"credit.name={name}"]


def _signals(thing: Any) -> list[str]:
    """The signals that a member asks for; of a class, those of its `__call__`."""
    from credit.signals import SIGNALS, is_signal_name

    is_called = inspect.isclass(thing) and any("__call__" in vars(base) for base in thing.__mro__)
    call = thing.__call__ if is_called else thing
    try:
        return [name for name in inspect.signature(call).parameters if name in SIGNALS or is_signal_name(name)]
    except (TypeError, ValueError):
        return []


def _name(spec: str) -> str:
    return spec.rpartition(":")[2]


def _key(word: str) -> str:
    try:
        return parse_overrides([word])[0].get_key_element().lstrip("+")
    except (HydraException, ValueError):
        return ""


_PLACES: dict[str, Callable[[Own, str, str], None]] = {
    **dict.fromkeys(MEMBERS, _member),
    **dict.fromkeys(_MADE_WHOLE, _node),
    "reward": _reward,
    "credit": _strategy,
}
