"""Settings that nobody reads, and settings of the wrong type: told when a command is composed, with the nearest right name.

TRL's own fields have types of their own (configs/command_line/schema.py). This is about ours, wherever they are declared
(configs/fields/), and about what `+key=value` or a YAML adds to them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from configs.command_line.layers import Layers
from configs.fields.defaults import COMMANDS, fields_of_command, script_of, wrong_names, wrong_types

_MOST_SEED = 2**32 - 1
# What people look for on the command line and give in another place.
_ELSEWHERE = {
    "tools": "a policy calls tools in train_grpo.py, eval_model.py and sample.py: tools=[my_tools.py:search]",
    "run": "a run's model is named as any other: model=hf model.name=runs/..., models=[runs/...] of eval_model.py",
    "environment_factory": "write task=environment task.environment=my_env.py:Game",
    "rollout_func": "rollouts of your own are given in Python: CreditGRPOTrainer(..., rollout_func=...)",
    "callbacks": "callbacks are given in Python: CreditGRPOTrainer(..., callbacks=[...])",
    "dry_run": "write --dry-run",
}


def complaints(name: str, config: DictConfig, groups: Iterable[str], layers: Layers) -> Iterator[str]:
    """What is wrong with the settings of the command `name`, one sentence each. `groups`: what its YAML chooses from."""
    known = [*(field.name for field in fields_of_command(name)), *groups]
    for group in set(groups) - ({"experiment", "task"} if name == "score" else {"experiment"}):
        if config.get(group) is None:
            yield f"`{group}` is read by the run and must be chosen: {group}=..., see --help"
    for key in config:
        if key not in known and not _is_used(str(key), config):
            yield f"`{key}` is no setting of {script_of(name)}. {remedy(str(key), config, known)}"
    yield from wrong_names(config, name)
    if any("hydra" in layer.values for layer in layers.files):
        yield "a YAML sets `hydra`, which these commands do not read. Take it out; run_dir=... names a run's folder"
    yield from wrong_types(config, name)
    if not 0 <= config.get("seed", 0) <= _MOST_SEED:
        yield f"seed={config.seed}: must be from 0 to {_MOST_SEED}"


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


def as_choice(hint: str, folder: Path) -> str:
    """A hint at `credit.weight` as one at `credit/weight`, where that is a group of choices below the folder."""
    slashed = re.sub(r"`([\w.]+)`", lambda found: f"`{found[1].replace('.', '/')}`", hint)
    return slashed if (folder / slashed.split("`")[1]).is_dir() else hint


def commands_choosing(group: str, but: str, folder: Path) -> str:
    """The other commands of a folder that choose from a config group, where `but` does not."""
    files = {path.stem: OmegaConf.load(path) for path in folder.glob("*.yaml")}
    chosen = {
        name: [str(key) for entry in file.get("defaults", []) if isinstance(entry, DictConfig) for key in entry]
        for name, file in files.items()
        if isinstance(file, DictConfig)
    }
    if group in chosen[but] or group in [field.name for field in fields_of_command(but)]:
        return ""
    return ", ".join(script_of(name) for name in sorted(COMMANDS) if name != "loop" and group in chosen.get(name, ()))


def commands_having(key: str, config: DictConfig | None) -> str:
    """Commands that have a setting of this name, where nothing in the configuration has."""
    nodes = [config[group] for group in config if not OmegaConf.is_missing(config, group)] if config is not None else []
    if any(isinstance(node, DictConfig) and key in node for node in nodes):
        return ""
    found = [name for name in sorted(COMMANDS) if any(field.name == key for field in fields_of_command(name))]
    return ", ".join(script_of(name) for name in found if name != "loop")


def _near(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"There is {', '.join(known)}."


def did_you_mean(word: str, choices: Iterable[str] | Mapping, prefix: str = "") -> str:
    """A remark with the nearest of some names; an empty text where none is near."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean `{prefix + '.' if prefix else ''}{near[0]}`?" if near else ""
