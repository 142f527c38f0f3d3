"""What a model trains with, where nobody says otherwise.

A model's YAML may have a `_trainer_` node: for each training command, values of TRL's fields that fit a model like it. So a
YAML of one's own that starts from `embedded` brings the embedded model's learning rate along. They stand above the
`configs/trainer/` YAMLs of this package and beneath a trainer YAML of the user's, an experiment and the command line.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from configs.command_line.layers import Layer, Layers

KEY = "_trainer_"
_LIKE = {"audit": "grpo"}  # commands with the trainer of another one
# What an adapter trains with, whichever way it was named.
LORA = Path(__file__).resolve().parent.parent / "model" / "peft" / "lora.yaml"


def put_model_defaults(config: DictConfig, name: str, layers: Layers) -> Layers:
    """Takes `_trainer_` out of the model's nodes and puts what it says of the command `name` under `trainer`. Returns the
    layers with that among them.

    Raises:
        ValueError: it says something that is no field of TRL's config, or of another type.
    """
    said = _taken(config, _LIKE.get(name, name.removeprefix("train_")))
    if not said or not is_dataclass(OmegaConf.get_type(config, "trainer")):
        return layers  # a trainer without TRL's fields is told by who reads it
    shipped = [i for i, layer in enumerate(layers.files) if layer.is_shipped and layer.name.startswith("trainer/")]
    place = shipped[-1] + 1 if shipped else 0
    files = list(layers.files)
    for where, values in said:
        last = layers.last(f"model{where}.{KEY}")
        is_shipped = last < 0 or (last < len(layers.files) and layers.files[last].is_shipped)
        known = [str(key) for key in config.trainer]
        for key, value in values.items():
            if key not in known and is_shipped:
                continue  # another command's trainer was chosen, which is told by who reads it
            if key not in known:
                raise ValueError(f"model{where}.{KEY}: trainer.{key} is no field of TRL's config")
            if layers.last(f"trainer.{key}") < place:
                _put(config, key, value, f"model{where}.{KEY}")
        files.insert(place, Layer(f"model{where.replace('.', '/')}", {"trainer": values}, is_shipped))
        place += 1
    return replace(layers, files=tuple(files))


def _put(config: DictConfig, key: str, value: Any, whose: str) -> None:
    try:
        OmegaConf.update(config, f"trainer.{key}", value, merge=False)
    except OmegaConfBaseException as error:
        raise ValueError(f"{whose}: trainer.{key}={value}: {f'{error}'.splitlines()[0]}") from None


def _taken(config: DictConfig, command: str) -> list[tuple[str, dict[str, Any]]]:
    """(place below `model`, values), the one with the last word at the end."""
    found = []
    model = None if OmegaConf.is_missing(config, "model") else config.get("model")
    if not isinstance(model, DictConfig):
        return []
    for where in ("", ".peft"):
        node = OmegaConf.select(config, f"model{where}", throw_on_missing=False)
        own = None
        if isinstance(node, DictConfig) and KEY in node:
            own = OmegaConf.to_container(node[KEY], resolve=False)
            with open_dict(node):
                del node[KEY]
        elif where and node:
            own = yaml.safe_load(LORA.read_text(encoding="utf-8"))[KEY]
        if isinstance(own, dict) and isinstance(own.get(command), dict):
            found.append((where, own[command]))
    return found
