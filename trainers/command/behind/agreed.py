"""What the runs that a command names agree on: a model is asked what it was trained for, unless the command says otherwise."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf

from configs.compose import ConfigError
from configs.fields.declared import fields_of
from configs.fields.defaults import defaults_in
from trainers.command.behind.brings import chosen, config_of, loading, put_words, run_behind
from trainers.command.behind.named import runs_named
from trainers.command.behind.words import BROUGHT
from trainers.command.cli import Command
from trainers.evaluation.models import model_at
from trainers.run.files import CONFIG
from trainers.run.tell.outputs import HIDDEN
from userio.words import word_of

_GENERATION = ("max_completion_length", "max_tool_calling_iterations", "temperature", "top_p", "top_k", "min_p",
               "repetition_penalty")  # fmt: skip
# What a run says -> the setting of the command.
EVALUATED = {
    "task": "task",
    "reward": "reward",
    "tools": "tools",
    **{f"trainer.{name}": f"trainer.{name}" for name in _GENERATION},
    "chat_template_kwargs": "trainer.chat_template_kwargs",
}
SAMPLED = {
    "task": "task",
    "tools": "tools",
    "trainer.max_completion_length": "max_length",
    "trainer.max_tool_calling_iterations": "max_tool_calling_iterations",
    "chat_template_kwargs": "chat_template_kwargs",
}


def with_runs(command: Command, settings: Mapping[str, str]) -> Command:
    """The command with the task of the runs that it names, and what belongs to it: rewards, tools, how a chat is rendered, how the policy
    writes. Says so. As it is where it names no run, or a task (or prompts) itself.

    Args:
        settings: what a run says -> where the command has it.

    Raises:
        ConfigError: the runs disagree, or a word speaks of a setting that their task has not; with the remedy.
    """
    given = {word_of(word).name for word in (*command.overrides, *command.apart)}
    runs = {} if given & {"task", "prompts"} else runs_named(command.config)
    said = {word: config_of(folder, word) for word, folder in runs.items()}
    said = {word: one for word, one in said.items() if isinstance(one.get("task"), DictConfig)}
    config, choices, lines = command.config.copy(), dict(command.choices), []
    if said:
        _put_settings(config, settings, given, said)
        first = next(iter(said))
        choices["task"] = chosen(runs[first], said[first], "task")
        others = f" and {len(said) - 1} more" if len(said) > 1 else ""
        lines = [
            f"task     {choices['task']} as {first}{others} had it, with all that belongs to it (another: task=...)"
        ]
        if "model" not in given and "models" in config:
            choices["model"], more = _start(config, runs, said)
            lines += more
    put_words(config, command.apart, BROUGHT)
    if said:
        _refuse_hidden(config)
    for line in lines:
        PartialState().print(line)
    return replace(command, config=config, choices=choices)


def _refuse_hidden(config: DictConfig) -> None:
    """Raises ConfigError where a run's task or rewards had a secret, which is kept nowhere."""
    for group in ("task", "reward"):
        node: Any = OmegaConf.to_container(config[group], resolve=True) if group in config else {}
        if HIDDEN in json.dumps(node, default=str):
            raise ConfigError(
                f"{group} of the run has a secret, which no run keeps. Say the whole {group} again: {group}=... with its settings."
            )


def with_model_of(command: Command) -> Command:
    """The command with the model that the run has made which `run=` names.

    Raises:
        ConfigError: there is no run, or another model is named beside it.
    """
    name = command.config.run
    if name is None:
        return command
    folder = run_behind(name)
    if folder is None:
        raise ConfigError(
            f"run={name}: no folder of a run, which has a {CONFIG} (looked in {Path.cwd()}). Another model: model=hf model.name=..."
        )
    if any(word_of(word).name == "model" for word in command.overrides):
        raise ConfigError("run= and model= each name a model. Leave one of them out.")
    config = command.config.copy()
    node = {**loading(config_of(folder, f"run={name}")), "name": model_at(str(name)).place}
    OmegaConf.update(config, "model", node, merge=False)
    return replace(command, config=config, choices={**command.choices, "model": str(name)})


def _put_settings(
    config: DictConfig, settings: Mapping[str, str], given: Collection[str], said: Mapping[str, DictConfig]
) -> None:
    """Puts what the runs say where the words of the command say nothing."""
    facts = {word: _facts(one) for word, one in said.items()}
    for key, place in settings.items():
        values = {word: own[key] for word, own in facts.items() if key in own}
        if values and not _is_said(place, given):
            OmegaConf.update(config, place, _agreed(key, place, values), merge=False, force_add=True)


def _is_said(place: str, given: Collection[str]) -> bool:
    """Whether the words of the command say it: by its name, its group's, or field by field what is no group."""
    fields = place not in BROUGHT and any(word.startswith(f"{place}.") for word in given)
    return place in given or place.partition(".")[0] in given or fields


def _facts(said: DictConfig) -> dict[str, Any]:
    """What a run says, as plain data. One of likelihood training says nothing of rewards and how a policy writes."""
    plain: Any = OmegaConf.to_container(said, resolve=True)
    trainer, declared = plain.get("trainer") or {}, fields_of(str(plain["task"].get("_target_"))) or ()
    found = {"task": {**defaults_in(declared), **plain["task"]}, "tools": plain.get("tools") or []}
    found["chat_template_kwargs"] = trainer.get("chat_template_kwargs") or plain.get("chat_template_kwargs") or {}
    if isinstance(plain.get("reward"), dict):
        found["reward"] = plain["reward"]
        if trainer.get("reward_weights") is not None:
            found["reward"]["weights"] = trainer["reward_weights"]
        found |= {f"trainer.{name}": trainer[name] for name in _GENERATION if name in trainer}
    return found


def _agreed(key: str, place: str, values: Mapping[str, Any]) -> Any:
    """The value that all runs have."""
    (first, value), *others = values.items()
    for word, other in others:
        if other != value:
            remedy = f"Say which: {place}=..." + (" with its settings" if key in BROUGHT else "")
            raise ConfigError(
                f"{first} and {word} were not trained alike, so that one evaluation of both has no {place} by itself "
                f"({_difference(place, value, other)}). {remedy}; or give each a command of its own."
            )
    return value


def _difference(place: str, one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in [*one, *(key for key in other if key not in one)] if one.get(key) != other.get(key)]
        keys = ["_target_"] if "_target_" in keys else keys  # the rest is then other settings
        return "; ".join(_difference(f"{place}.{key}", one.get(key), other.get(key)) for key in keys[:3])
    return f"{place} is {_short(one)} and {_short(other)}"


def _short(value: Any) -> str:
    return "null" if value is None else f"{value!s:.80}"


def _start(config: DictConfig, runs: Mapping[str, Path], said: Mapping[str, DictConfig]) -> tuple[str, list[str]]:
    """Puts the model at which the runs began before them, as README has it; where they began at different ones, none. Returns what it is
    called, and what is to be said."""
    nodes: list[Any] = [OmegaConf.to_container(one.model, resolve=True) for one in said.values() if "model" in one]
    starts = [{key: value for key, value in node.items() if key != "peft"} for node in nodes]
    first = next(iter(said))
    if not starts or any(start != starts[0] for start in starts):
        OmegaConf.update(config, "model", {**loading(said[first]), "name": None}, merge=False)
        return first, [
            "start    they began at different models, so that none of these stands beside them (one: model=...)"
        ]
    OmegaConf.update(config, "model", starts[0], merge=False)
    return chosen(runs[first], said[first], "model"), []
