"""Settings as they are listed, by `--help` (help.py) and in the docs (page.py): each once, with its default and its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.fields.declared import REQUIRED, ROOT, Field
from configs.fields.defaults import PLACES, fields_of_command, fields_of_place

CONFIG_DIR = ROOT / "configs"
_IN_YAML = {"None": "null", "True": "true", "False": "false"}
_SHORT = 40  # of a default that is shown beside another


@dataclass(frozen=True)
class Setting:
    """One line of help."""

    key: str
    """What is written on the command line."""
    default: Any
    """With what the YAML of the choice says."""
    text: str
    """What it means."""


def settings_of_fields(fields: Iterable[Field], prefix: str = "", said: Any = None) -> Iterator[Setting]:
    """`said`: what a YAML says there already."""
    said = said if isinstance(said, dict) else {}
    for field in fields:
        key = f"{prefix}{field.name}"
        if field.fields:
            yield from settings_of_fields(field.fields, f"{key}.", said.get(field.name))
        elif field.is_plain or field.default == REQUIRED:
            default = said.get(field.name, field.default)
            yield Setting(key, default, _in_words(field.text))


def settings_of_command(name: str) -> list[Setting]:
    """Its own come first, what all training commands take after them."""
    fields = fields_of_command(name)
    last = fields[-1].owner if fields else ""
    return list(settings_of_fields(sorted(fields, key=lambda field: field.owner != last)))


def settings_of_choice(group: str, choice: str, folders: Sequence[Path] = ()) -> list[Setting]:
    """What can be set where a YAML of a group is chosen, by its place in the configuration."""
    return list(_of_node(group.replace("/", "."), said_by(group, choice, folders)))


def said_by(group: str, choice: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What a YAML says, with those it starts from."""
    own = yaml_of(group, choice, folders)
    whole: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            above, _, name = entry.split("@")[0].lstrip("/").rpartition("/")
            whole = _merged(whole, said_by(above or group, name, folders))
    return _merged(whole, own)


def yaml_of(group: str, choice: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """A YAML as it stands, `defaults` included; {} where there is none."""
    paths = [folder / group / f"{choice}.yaml" for folder in (CONFIG_DIR, *folders)]
    found = next((path for path in paths if path.is_file()), None)
    return (yaml.safe_load(found.read_text(encoding="utf-8")) or {}) if found else {}


def _of_node(place: str, node: Any) -> Iterator[Setting]:
    if isinstance(node, list):
        for number, entry in enumerate(node):
            yield from _of_node(f"{place}.{number}", entry)
    if not isinstance(node, dict):
        return
    fields = fields_of_place(place, node.get("_target_")) if place in PLACES or "_target_" in node else None
    for setting in settings_of_fields(fields or (), f"{place}.", node):
        if not _has_target(node.get(setting.key.rpartition(".")[2])):
            yield setting
    for inner in [inner for inner in PLACES if inner.rpartition(".")[0] == place]:
        yield from _of_node(inner, node.get(inner.rpartition(".")[2]) or {})
    for key, child in node.items():
        if _has_target(child):
            yield from _of_node(f"{place}.{key}", child)


def _has_target(node: Any) -> bool:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return (isinstance(node, dict) and "_target_" in node) or any(_has_target(child) for child in inner)


SettingBlock = tuple[list[str], list[Setting]]


def blocks(group: str, choices: Sequence[str], folders: Sequence[Path] = ()) -> list[SettingBlock]:
    """The settings of a group's choices, see `once`."""
    return once({choice: settings_of_choice(group, choice, folders) for choice in choices})


def once(takers: Mapping[str, Iterable[Setting]]) -> list[SettingBlock]:
    """Each setting once: (those that take it, the settings), the most common first. A default that is not the same for all of
    them is said of each: `0.001 (adapter, separate: 0.0001)`."""
    defaults: dict[tuple[str, str], dict[str, Any]] = {}
    for taker, settings in takers.items():
        for setting in settings:
            defaults.setdefault((setting.key, setting.text), {})[taker] = setting.default
    found: dict[tuple[str, ...], list[Setting]] = {}
    for (key, text), by_taker in defaults.items():
        found.setdefault(tuple(by_taker), []).append(Setting(key, _Defaults(by_taker), text))
    return sorted(((list(who), settings) for who, settings in found.items()), key=lambda one: -len(one[0]))


@dataclass(frozen=True)
class _Defaults:
    """The default of a setting under each choice that has it."""

    by_choice: dict[str, Any]

    def __str__(self) -> str:
        if len(self.by_choice) > 1 and all(choice == value for choice, value in self.by_choice.items()):
            return "<choice>"
        groups: dict[str, list[str]] = {}
        for choice, value in self.by_choice.items():
            groups.setdefault(shown(value), []).append(choice)
        (first, _), *others = sorted(groups.items(), key=lambda one: -len(one[1]))
        return first + "".join(
            f" ({', '.join(choices)}: {value if len(value) <= _SHORT else '...'})" for value, choices in others
        )


def shown(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, _Defaults):
        return str(value)
    if value in (REQUIRED, "???"):
        return "..."
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{shown(entry)}' for key, entry in value.items())}}}"
    return repr(value) if isinstance(value, str) and not re.fullmatch(r"[\w./|-]+", value) else str(value)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A `_target_` of its own starts from nothing, as composing has it."""
    if "_target_" in above and above["_target_"] != below.get("_target_", above["_target_"]):
        return above
    pairs = {key: (below[key], above[key]) for key in below if key in above}
    both = {k: _merged(a, b) for k, (a, b) in pairs.items() if isinstance(a, dict) and isinstance(b, dict)}
    return {**below, **above, **both}


def _in_words(text: str) -> str:
    """A sentence of the source as it stands in a list: YAML's words for Python's, and no capital."""
    text = re.sub(r"\b(None|True|False)\b", lambda found: _IN_YAML[found.group()], text)
    first = text.split(" ")[0]
    return text[0].lower() + text[1:] if first == "A" or (first[1:].islower() and first[0].isupper()) else text
