"""TRL's config dataclasses as typed Hydra schemas, so that no field is ever retyped here.

`trainer.beta=0.1` works because `GRPOConfig` has `beta`; `trainer.learning_rate=abc` and a misspelt key die when the
configuration is composed. The YAMLs in configs/trainer/ hold departures from TRL's defaults only.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from typing import Any

from hydra.core.config_store import ConfigStore

PRIMITIVES = (bool, int, float, str)
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "Integer": "a whole number",
    "float": "a number",
    "Float": "a number",
    "str": "a text",
    "string": "a text",
}


def register(name: str, config_class: type) -> None:
    """Makes `config_class` (a dataclass such as `trl.GRPOConfig`) available as `trainer: <name>`."""
    ConfigStore.instance().store(group="trainer", name=name, node=schema_of(config_class), provider="trl")


def schema_of(config_class: type) -> type:
    """A dataclass with the fields of `config_class` whose types OmegaConf can check; everything else is Any."""
    hints = typing.get_type_hints(config_class)
    fields = []
    for entry in dataclasses.fields(config_class):
        if not entry.init:
            continue
        default = _default(entry)
        kind = _checkable(hints[entry.name], default)
        fields.append((entry.name, kind, dataclasses.field(default_factory=lambda value=default: value)))
    return dataclasses.make_dataclass(f"{config_class.__name__}Schema", fields)


def type_in_words(text: str) -> str | None:
    """OmegaConf's words on a value of the wrong type, as ours (configs/fields/defaults.py); None for other complaints."""
    wanted = re.search(
        r"could not be converted to (Integer|Float)|is not a (?:valid )?(bool)|for field of type '(\w+)'|to (string):",
        text,
    )
    if "is not Optional" in text:
        return "cannot be null; leave it out for TRL's default"
    kind = next((found for found in wanted.groups() if found), "") if wanted else ""
    return f"must be {_WORDS[kind]}" if kind in _WORDS else None


def departures(config_class: type, values: dict[str, Any]) -> dict[str, Any]:
    """The entries of `values` that differ from the defaults of `config_class`: what has to be passed to it."""
    defaults = {entry.name: _default(entry) for entry in dataclasses.fields(config_class) if entry.init}
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


def _default(entry: dataclasses.Field) -> Any:
    if entry.default is not dataclasses.MISSING:
        value = entry.default
    elif entry.default_factory is not dataclasses.MISSING:
        value = entry.default_factory()
    else:
        value = None
    # Enums stand in YAML by their value; TRL and transformers turn strings back into enums.
    return getattr(value, "value", value) if not isinstance(value, (list, dict)) else value


def _checkable(hint: Any, default: Any) -> Any:
    """`hint` if OmegaConf can check it and the default fits, else Any."""
    arguments = typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)
    optional = type(None) in arguments or default is None
    kinds = [kind for kind in arguments if kind is not type(None)]
    if not all(kind in PRIMITIVES for kind in kinds):
        return Any
    kind = kinds[0] if len(kinds) == 1 else typing.Union[tuple(kinds)]  # noqa: UP007 (built at run time)
    return typing.Optional[kind] if optional else kind  # noqa: UP045


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union
