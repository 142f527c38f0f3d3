"""Settings that nobody reads, and settings of the wrong type: told when a command is composed, with the nearest right name.

TRL's own fields have types of their own (configs/schema.py); whatever a `_target_` takes is checked where it is called.
This is about the rest: the settings that stand in a command's own YAML, and what `+key=value` or a YAML adds to them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.command_line.layers import Layers
from configs.command_line.overrides import as_one_text

# Nodes whose keys are read by name; `guard` has keys of its own, which rewards.build checks.
_FIXED = {"reward": ("funcs", "weights", "guard")}
_NULLABLE = {"horizon"}  # whole numbers that may be null
# Of which type a setting is whose default is null.
_OPTIONAL = {"processes": 1, "examples": 1, "max_new_tokens": 1, "max_length": 1}
_OPTIONAL |= dict.fromkeys(("run_dir", "prompts", "out", "device"), "")
_MOST_SEED = 2**32 - 1
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
# What people look for on the command line and give in another place.
_ELSEWHERE = {
    "tools": "tools are given in Python: CreditGRPOTrainer(..., tools=[...])",
    "environment_factory": "environments are given in Python: CreditGRPOTrainer(..., environment_factory=...)",
    "rollout_func": "rollouts of your own are given in Python: CreditGRPOTrainer(..., rollout_func=...)",
    "callbacks": "callbacks are given in Python: CreditGRPOTrainer(..., callbacks=[...])",
    "reward_funcs": "set reward.funcs=[file.py:function]",
    "reward_weights": "set reward.weights=[...]",
    "peft": "set model/peft=lora",
    "peft_config": "set model/peft=lora and model.peft.r=... and the like",
    "model_name": "set model=hf model.name=...",
    "model_name_or_path": "set model=hf model.name=...",
    "dataset": "set task=hub task.dataset=... or task=jsonl task.path=...",
    "dataset_name": "set task=hub task.dataset=...",
    "output_dir": "set run_dir=...",
    "resume_from_checkpoint": "set resume=true",
}


def complaints(name: str, config: DictConfig, groups: Iterable[str], layers: Layers) -> Iterator[str]:
    """What is wrong with the settings of the command `name`, one sentence each. `groups`: what its YAML chooses from."""
    own = next((layer.values for layer in layers.files if layer.name == name), {})
    known = [*own, *groups]
    yield from _missing(config, own, set(groups) - {"experiment"})
    for key in config:
        if key not in known and not _is_used(str(key), config):
            yield f"`{key}` is no setting of {name}.py. {remedy(str(key), config, known)}"
    for group, keys in {
        **_FIXED,
        **{key: tuple(value) for key, value in own.items() if value and isinstance(value, dict)},
    }.items():
        for key in node if isinstance(node := config.get(group), DictConfig) else ():
            if key not in keys:
                yield f"`{group}.{key}` is no setting. {_near(str(key), keys, f'{group}.')}"
    if any("hydra" in layer.values for layer in layers.files):
        yield "a YAML sets `hydra`, which these commands do not read. Take it out; run_dir=... names a run's folder"
    yield from _wrong_types(config, own)
    if not 0 <= config.get("seed", 0) <= _MOST_SEED:
        yield f"seed={config.seed}: must be from 0 to {_MOST_SEED}"


def _missing(config: DictConfig, own: Mapping[str, Any], groups: Iterable[str]) -> Iterator[str]:
    for key, value in own.items():
        node = config.get(key)
        inner = [k for k in value if k not in node] if isinstance(value, dict) and isinstance(node, DictConfig) else []
        for gone in [key] if key not in config else [f"{key}.{k}" for k in inner]:
            yield f"`{gone}` is read by the run and cannot be taken away; give it a value"
    for group in groups:
        if config.get(group) is None:
            yield f"`{group}` is read by the run and must be chosen: {group}=..., see --help"


def _wrong_types(config: DictConfig, own: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A setting has the type of its default; where that is null, any. A number may be a list of them (tau)."""
    for key, default in own.items():
        if key not in config:
            continue
        value = config[key]
        if default == {}:
            continue  # open to any key; whoever reads it checks
        if isinstance(default, dict):
            if isinstance(value, DictConfig):
                yield from _wrong_types(value, default, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}={value}: give {' and '.join(f'{prefix}{key}.{inner}=...' for inner in default)}"
        elif not _fits(value, default, str(key)):
            kind = _KINDS[type(_OPTIONAL.get(key, default))]
            quoted = f", so quote it twice: {as_one_text(f'{prefix}{key}={value}')}" if kind == "a text" else ""
            yield f"{prefix}{key}={'null' if value is None else value}: must be {kind}{quoted}"


def _fits(value: Any, default: Any, key: str) -> bool:
    if default is None:
        return value is None or key not in _OPTIONAL or _fits(value, _OPTIONAL[key], key)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float)) or OmegaConf.is_list(value)
    return isinstance(value, type(default)) or (value is None and key in _NULLABLE)


def _is_used(key: str, config: DictConfig) -> bool:
    """Whether an interpolation somewhere refers to it: `+k=8 trainer.num_generations='${k}'`."""
    text = OmegaConf.to_yaml(config)
    return re.search(r"\$\{[^}]*(?<![\w.])" + re.escape(key) + r"(?!\w)", text) is not None


def remedy(key: str, config: DictConfig, known: Iterable[str]) -> str:
    """Where a setting of that name is, in words."""
    if key in _ELSEWHERE:
        return f"{_ELSEWHERE[key][0].upper()}{_ELSEWHERE[key][1:]}."
    for group in config:  # `+learning_rate=1` is meant for the trainer
        node = None if OmegaConf.is_missing(config, group) else config[group]
        if isinstance(node, DictConfig) and key in node:
            return f"Did you mean `{group}.{key}`?"
    return _near(key, known)


def _near(word: str, known: Iterable[str], prefix: str = "") -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{prefix}{near[0]}`?" if near else f"There is {', '.join(known)}."
