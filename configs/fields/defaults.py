"""Defaults beneath what the YAMLs and the command line say, and what is wrong with what they say.

A YAML says departures only. After Hydra has composed them, every setting that nobody has spoken of gets the default that
stands where it is declared: in the source of its `_target_` (declared.py), or in commands.py and audits.py.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from configs.command_line.layers import MEMBERS, Layers
from configs.command_line.members import ROW_FUNCTIONS
from configs.command_line.overrides import as_one_text
from configs.fields.declared import Field, fields_of, is_ours

COMMANDS = {
    "train_grpo": "commands.TrainGrpo",
    "train_sft": "commands.TrainSft",
    "train_lhts": "commands.TrainLhts",
    "sample": "commands.Sample",
    "eval_model": "commands.EvalModel",
    "audit": "audits.AuditSettings",
    "score": "commands.ScoreSettings",
    "loop": "commands.LoopSettings",
    "sweep": "commands.SweepSettings",
}
_NO_SCRIPT = {"audit": "lab.audit"}
# Nodes without a `_target_`, and what declares their settings.
PLACES = {
    "reward": ("configs.fields.commands.RewardSettings",),
    "reward.guard": ("configs.fields.commands.GuardSettings", "rewards.guard.guarded"),
}
_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
_CONTAINERS = {
    "list": ListConfig,
    "tuple": ListConfig,
    "Sequence": ListConfig,
    "dict": DictConfig,
    "Mapping": DictConfig,
}
_CONTAINER_WORDS = {ListConfig: "a list", DictConfig: "a mapping"}


def fields_of_command(name: str) -> tuple[Field, ...]:
    """Its own settings; () for a configuration that is no command's (configs/strategy.yaml)."""
    found = fields_of(f"configs.fields.{COMMANDS[name]}") if name in COMMANDS else ()
    assert found is not None
    return found


def script_of(name: str) -> str:
    """What a command is called in messages: train_grpo.py, lab.audit."""
    return _NO_SCRIPT.get(name, f"{name}.py")


def fields_of_place(place: str, target: str | None) -> tuple[Field, ...] | None:
    """The settings of a node by its dotted place and what its `_target_` names; None: nobody declares them."""
    if place in PLACES:
        return tuple(field for one in PLACES[place] for field in fields_of(one) or () if field.name != "func")
    fields = fields_of(target) if target else None
    if fields is None or any(field.name == "completions" for field in fields):
        return None  # a reward function gets its columns by name
    above, _, key = place.rpartition(".")
    if key in ROW_FUNCTIONS and (above == "credit.teacher" or above.startswith("credit.signals.")):
        fields = tuple(field for field in fields if field.name not in ROW_FUNCTIONS[key])
    if place in MEMBERS:
        from credit.signals import SIGNALS, is_signal_name  # torch, without which a sweep starts

        fields = tuple(field for field in fields if field.name not in SIGNALS and not is_signal_name(field.name))
    return tuple(field for field in fields if f"{place}.{field.name}" not in MEMBERS)


def fill(config: DictConfig, name: str) -> None:
    """Puts every default of the command `name`, and of whatever its nodes name, where nothing is said."""
    with open_dict(config):
        reward = _child(config, "reward")
        if isinstance(reward, DictConfig) and "guard" not in reward:
            reward["guard"] = {}
        for place, node, fields, _ in _declared(config, name):
            if "_args_" not in node and "_partial_" not in node:
                _put(node, fields, place)


def defaults_in(fields: Iterable[Field]) -> dict[str, Any]:
    """The defaults as plain data."""
    return {
        field.name: defaults_in(field.fields) if field.fields else copy.deepcopy(field.default)
        for field in fields
        if field.is_plain
    }


def is_declared(place: str, config: DictConfig, name: str, layers: Layers) -> bool:
    """Whether a dotted place is a setting: of the command or of what its nodes name, of a YAML, or in a mapping that takes any key."""
    if place.removesuffix("._target_") in MEMBERS:  # a member that no YAML has named before
        return True
    if place in PLACES or _field_at(place, config, name) or any(layer.says(place) for layer in layers.files):
        return True
    if _takes_any(_node(config, place.rpartition(".")[0]), place.rpartition(".")[0]):
        return True
    while "." in place:
        place = place.rpartition(".")[0]
        field = _field_at(place, config, name)
        if field is not None:
            takes_any = any(kind in ("dict", "Mapping") for kind in _kinds(field.kind)) and not field.fields
            said = any(isinstance(layer.at(place), dict) for layer in layers.files)
            return takes_any and (said or field.default == {})
        if place not in MEMBERS and any(layer.at(place) == {} for layer in layers.files):
            return True
    return False


def names_at(place: str, config: DictConfig) -> list[str]:
    """The settings that what stands at a dotted place declares."""
    return [field.name for field in fields_of_place(place, _target(_node(config, place))) or ()]


def _takes_any(node: DictConfig | None, place: str) -> bool:
    """Whether what a node names says nothing of its settings here (`**settings`, a reward function): it is asked when it is called."""
    target = _target(node)
    return target is not None and fields_of_place(place, target) is None


def _field_at(place: str, config: DictConfig, name: str) -> Field | None:
    words = place.split(".")
    if field := _walk(fields_of_command(name), words):
        return field
    for count in range(len(words) - 1, 0, -1):
        above = ".".join(words[:count])
        node = _node(config, above)
        if above in PLACES or _target(node):
            return _walk(fields_of_place(above, _target(node)) or (), words[count:])
    return None


def _walk(fields: Iterable[Field], words: Sequence[str]) -> Field | None:
    found = next((field for field in fields if field.name == words[0]), None)
    return found if found is None or len(words) == 1 else _walk(found.fields, words[1:])


def wrong_names(config: DictConfig, name: str) -> Iterator[str]:
    """A sentence for each setting that what stands in its node does not take."""
    for place, node, fields, target in _declared(config, name):
        if place:
            yield from _strange(node, fields, place, target)
        for field in fields:
            inner = _child(node, field.name)
            if field.fields and isinstance(inner, DictConfig):
                yield from _strange(inner, field.fields, f"{place}.{field.name}" if place else field.name, None)


def wrong_types(config: DictConfig, name: str) -> Iterator[str]:
    """A sentence for each setting whose value is of another type than its declaration says."""
    for place, node, fields, _ in _declared(config, name):
        yield from _misfits(node, fields, f"{place}." if place else "")
    for place in PLACES:
        above, _, key = place.rpartition(".")
        value = parent.get(key) if above and (parent := _node(config, above)) is not None else None
        if value is not None and not isinstance(value, DictConfig):
            yield f"{place}={value}: give {place}.{names_at(place, config)[0]}=... and the like, or null"


def _declared(config: DictConfig, name: str) -> Iterator[tuple[str, DictConfig, tuple[Field, ...], str | None]]:
    """(place, node, fields, target) of the command and of each node whose settings our own source declares."""
    yield "", config, fields_of_command(name), None
    own = {field.name for field in fields_of_command(name)}
    places: list[tuple[str, Any]] = [(str(key), _child(config, key)) for key in config if key not in (*own, "trainer")]
    while places:
        place, node = places.pop(0)
        if isinstance(node, ListConfig):
            places += [(f"{place}.{i}", node._get_node(i)) for i in range(len(node))]
        if not isinstance(node, DictConfig):
            continue
        target = _target(node)
        fields = fields_of_place(place, target) if place in PLACES or is_ours(target or "") else None
        if fields is not None:
            yield place, node, fields, target
        places += [(f"{place}.{key}", _child(node, key)) for key in node]


def _put(node: DictConfig, fields: Iterable[Field], place: str) -> None:
    for field in fields:
        if field.name not in node and field.is_plain:
            node[field.name] = copy.deepcopy(field.default) if not field.fields else {}
        inner = _child(node, field.name)
        if field.fields and isinstance(inner, DictConfig):
            _put(inner, field.fields, f"{place}.{field.name}")


def _strange(node: DictConfig, fields: Iterable[Field], place: str, target: str | None) -> Iterator[str]:
    known = [field.name for field in fields]
    for key in map(str, node):
        if key in known or key.startswith("_") or f"{place}.{key}" in (*MEMBERS, *PLACES):
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        if target is None:
            hint = f"Did you mean `{place}.{near[0]}`?" if near else f"There is {', '.join(known)}."
            yield f"`{place}.{key}` is no setting. {hint}"
        else:
            hint = f"Did you mean `{near[0]}`?" if near else f"It takes {', '.join(known) or 'nothing'}."
            yield f"{place}.{key}: `{target}` takes no {key!r}. {hint}"


def _misfits(node: DictConfig, fields: Iterable[Field], prefix: str) -> Iterator[str]:
    for field in fields:
        if field.name not in node or OmegaConf.is_missing(node, field.name):
            continue
        value, place = node[field.name], f"{prefix}{field.name}"
        if field.fields and isinstance(value, DictConfig):
            yield from _misfits(value, field.fields, f"{place}.")
        elif field.fields and not any(_is(value, kind) for kind in _kinds(field.kind) if kind in ("None", "bool")):
            yield f"{place}={_shown(value)}: give {' and '.join(f'{place}.{inner.name}=...' for inner in field.fields)}"
        elif not _fits(value, field.kind):
            words = _in_words(field.kind)
            is_text = "a text" in words and value is not None
            quoted = f", so quote it twice: {as_one_text(f'{place}={value}')}" if is_text else ""
            listed = f", in brackets: {place}=[{value}]" if words == "a list" and isinstance(value, str) else ""
            yield f"{place}={_shown(value)}: must be {words}{quoted}{listed}"


def _fits(value: Any, kind: str) -> bool:
    return any(_is(value, one) for one in _kinds(kind))


def _is(value: Any, kind: str) -> bool:
    if kind in _CONTAINERS:
        return isinstance(value, _CONTAINERS[kind])
    if kind in ("int", "float"):
        return isinstance(value, (int, float) if kind == "float" else int) and not isinstance(value, bool)
    if kind in ("bool", "str", "Path"):
        return isinstance(value, bool if kind == "bool" else str)
    return value is None if kind == "None" else True


def _kinds(kind: str) -> list[str]:
    """`float | list[float] | None` -> float, list, None."""
    if not kind:
        return ["Any"]
    node: ast.expr = ast.parse(kind, mode="eval").body
    kinds = []
    while isinstance(node, ast.BinOp):
        kinds.append(node.right)
        node = node.left
    return [ast.unparse(one.value if isinstance(one, ast.Subscript) else one) for one in [node, *reversed(kinds)]]


def _in_words(kind: str) -> str:
    kinds = [one for one in _kinds(kind) if one in _KINDS or one in _CONTAINERS]
    words = [_KINDS.get(one) or _CONTAINER_WORDS[_CONTAINERS[one]] for one in kinds]
    return " or ".join([*words, *(["null"] if "None" in _kinds(kind) else [])])


def _shown(value: Any) -> Any:
    return "null" if value is None else value


def _target(node: Any) -> str | None:
    target = node._get_node("_target_") if isinstance(node, DictConfig) and "_target_" in node else None
    value = None if target is None else target._value()
    return value if isinstance(value, str) else None


def _child(node: DictConfig, key: Any) -> Any:
    """What stands at a key, unresolved; None: nothing, or a reference to somewhere else."""
    child = node._get_node(key) if key in node or OmegaConf.is_missing(node, key) else None
    return None if child is None or child._is_interpolation() or child._is_none() or child._is_missing() else child


def _node(config: DictConfig, place: str) -> Any:
    node: Any = config
    for key in place.split("."):
        if isinstance(node, ListConfig) and key.isdigit() and int(key) < len(node):
            node = node._get_node(int(key))
        else:
            node = _child(node, key) if isinstance(node, DictConfig) else None
    return node if isinstance(node, DictConfig) else None
