"""Who says what: the YAMLs that a configuration is composed of, in the order in which they are merged, and the command
line after them.

Hydra merges key by key and forgets where a value came from. That is wrong where a YAML names another function than its
parent does: the parent's `eps` is no setting of it. And a setting can only give way to another one if it is known which
of the two was meant by the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

COMMAND_LINE = "the command line"
# Where one function or class out of several is named, each with settings of its own.
_AXES = ("baseline", "spread", "weight", "ratio", "critic", "live_weight", "teacher", "auxiliary")
MEMBERS = (*(f"credit.{axis}" for axis in _AXES), "weight", "sampler")


@dataclass(frozen=True)
class Layer:
    """What one YAML says, placed where it stands in the whole. `name`: its path in a folder of configurations."""

    name: str
    values: dict[str, Any]
    is_shipped: bool = True

    def at(self, place: str) -> Any:
        """What it says at a dotted place; None: null, or nothing."""
        node: Any = self.values
        for key in place.split(".") if place else ():
            is_entry = isinstance(node, list) and key.isdigit() and int(key) < len(node)
            node = node[int(key)] if is_entry else node.get(key) if isinstance(node, dict) else None
        return node

    def says(self, place: str) -> bool:
        parent, _, key = place.rpartition(".")
        node = self.at(parent)
        return (isinstance(node, dict) and key in node) or (isinstance(node, list) and self.at(place) is not None)


@dataclass(frozen=True)
class Layers:
    """`files`: the YAMLs, first to last. `keys`: settings of the command line. `groups`: config groups chosen there."""

    files: tuple[Layer, ...] = ()
    keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def last(self, place: str) -> int:
        """Number of the layer that has the last word at or below a dotted place; the command line comes after the files; -1: nobody."""
        if any(f"{key}.".startswith(f"{place}.") or place.startswith(f"{key}.") for key in self.keys):
            return len(self.files)
        return max((i for i, layer in enumerate(self.files) if layer.says(place)), default=-1)

    def source(self, place: str) -> str:
        """Who has the last word there: the path of a YAML, the command line, or "" for nobody."""
        last = self.last(place)
        return COMMAND_LINE if last == len(self.files) else self.files[last].name if last >= 0 else ""

    def is_given(self, place: str) -> bool:
        """Whether the last word is the user's: the command line's, or a YAML's of his own."""
        last = self.last(place)
        return last == len(self.files) or (last >= 0 and not self.files[last].is_shipped)


def layers_of(loader: ConfigLoader, name: str, overrides: Sequence[str], folders: Sequence[Path]) -> Layers:
    """The layers of what `compose(name, overrides)` makes. The first of `folders` is this package's own."""
    listed = loader.compute_defaults_list(config_name=name, overrides=list(overrides), run_mode=RunMode.RUN)
    files = []
    for default in listed.defaults:
        path = str(default.config_path)
        found = next((folder for folder in folders if (folder / f"{path}.yaml").is_file()), None)
        if found is None or path.startswith("hydra/"):
            continue  # a schema, or Hydra's own
        values = _read(found / f"{path}.yaml", (found / f"{path}.yaml").stat().st_mtime_ns)
        if isinstance(values, dict):
            said = {str(key): value for key, value in values.items() if key != "defaults"}
            files.append(Layer(path, _placed(said, default.package), found == folders[0]))
    settings = {override.get_key_element() for override in listed.config_overrides}
    given = [o.get_key_element() for o in OverridesParser.create().parse_overrides(list(overrides))]
    groups = [key.lstrip("+~").split("@")[0] for key in given if key not in settings]
    return Layers(tuple(files), tuple(key.lstrip("+~") for key in given if key in settings), tuple(groups))


@lru_cache(maxsize=256)
def _read(path: Path, modified: int) -> Any:
    """A YAML's contents as plain data. Not to be written into."""
    return OmegaConf.to_container(OmegaConf.load(path))


def separate_members(config: DictConfig, layers: Layers) -> None:
    """A new `_target_` starts from its own defaults: keys that were said of another function are taken out of each member.
    And a member chosen on the command line (`credit/spread=broadcast`) replaces one that a YAML spells out."""
    for place in MEMBERS:
        node = OmegaConf.select(config, place)
        if not isinstance(node, DictConfig):
            continue
        own = {key[len(place) + 1 :].split(".")[0] for key in layers.keys if key.startswith(f"{place}.")}
        kept = _said_of_its_target(place, layers, node["_target_"] if "_target_" in own else None)
        if kept is None:
            continue
        with open_dict(node):
            for key in set(node) - own:
                del node[key]
            for key in set(kept) - own:
                node[key] = kept[key]


def _said_of_its_target(place: str, layers: Layers, last: str | None) -> dict[str, Any] | None:
    """What the YAMLs say of the function that `place` ends up with (`last`: the one of the command line); None where they
    speak of one function only."""
    group, kept, target, changed = place.replace(".", "/"), {}, None, False
    said = [(layer.name, node) for layer in layers.files if isinstance(node := layer.at(place), dict)]
    for name, node in said:
        new = node.get("_target_", target)
        is_choice = name.startswith((f"{group}/", f"credit/{group}/"))
        if new != target and not is_choice and group in layers.groups:
            changed = True  # spelled out in a YAML, and another one chosen on the command line
            continue
        if new != target and kept:
            changed, kept = True, {}
        kept, target = {**kept, **node}, new
    if last is not None and last != target:
        return {}
    return kept if changed else None


def _placed(values: dict[str, Any], package: str | None) -> dict[str, Any]:
    for key in reversed(package.split(".") if package else ()):
        values = {key: values}
    return values
