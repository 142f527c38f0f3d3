"""What becomes of the fields of TRL's configs on a command line: `trainer.<field>=...`.

They are passed on, except for those of trainers/command/field_table.py, which are refused or said. It counts what a user sets: the
command line, and YAMLs of his own.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.command_line.layers import Layers
from configs.command_line.unread import did_you_mean
from configs.compose import ConfigError
from credit.requires import check_requires, unmet
from trainers.command.field_table import ALL, RULES
from trainers.seam.trl_weight import KNOWN

COUNTS = [
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
    "num_generations",
    "num_iterations",
    "max_completion_length",
]
# Null: follows from the others, or no limit.
MAY_BE_NULL = ("steps_per_generation", "generation_batch_size", "max_completion_length")
WORDS = {
    "train_grpo": {
        "loss_type": (*KNOWN, "bnpo"),
        "importance_sampling_level": ("token", "sequence"),
        "scale_rewards": ("group", "batch", "none"),
    }
}
FINITE = ("learning_rate", "beta", "weight_decay", "warmup_steps")
NUMBERS = ("max_grad_norm", "epsilon", "epsilon_high", "delta")  # infinity switches these off


@dataclass(frozen=True)
class Verdict:
    """Sentences about the fields that a user set."""

    refused: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def checked_fields(name: str, config: DictConfig, layers: Layers, is_elsewhere: bool = False) -> list[str]:
    """The fields of TRL's config against the table and against the demands of the strategy. Returns what is to be said.
    is_elsewhere: the run may be on another machine, so that what this one lacks is said.

    Raises:
        ConfigError: a field is refused, unknown or required otherwise.
    """
    schema = OmegaConf.get_type(config.trainer)
    if not dataclasses.is_dataclass(schema):
        raise ConfigError(
            "trainer: the chosen YAML lacks TRL's fields. Begin it with `defaults: [grpo, _self_]`, or sft."
        )
    known = [entry.name for entry in dataclasses.fields(schema)]
    if complaint := strange_fields(map(str, config.trainer), known, schema.__name__.removesuffix("Schema")):
        raise ConfigError(complaint)
    try:
        overruled = epochs_or_steps(config, layers)
        broken = list(_broken_demands(config))
    except ValueError as error:
        raise ConfigError(f"{error}") from None
    verdict = verdict_of(name, config, layers, is_elsewhere)
    if complaints := [
        *verdict.refused,
        *broken,
        *impossible_numbers(config.trainer),
        *unknown_words(name, config.trainer),
    ]:
        raise ConfigError(" ".join(complaints))
    return [*verdict.said, *([overruled] if overruled else [])]


def _broken_demands(config: DictConfig) -> Iterator[str]:
    """What the strategy's YAML requires of the trainer and does not find."""
    requires = OmegaConf.select(config, "credit.requires")
    if requires is None:
        return
    plain: Any = OmegaConf.to_container(config, resolve=True)
    check_requires(plain["credit"]["requires"])
    for sentence in unmet(plain["credit"]["requires"], plain["trainer"]):
        yield f"credit strategy {plain['credit'].get('name')!r} {sentence}."


def verdict_of(verb: str, config: DictConfig, layers: Layers, is_elsewhere: bool = False) -> Verdict:
    """What the table says of the fields that the command line, a YAML of the user's or a recipe sets."""
    values: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    weights = OmegaConf.select(config, "reward.weights")
    beside = {**values, "run's seed": config.get("seed"), "run's reward weights": weights}
    refused, said = [], []
    for rule in RULES:
        if verb not in rule.verbs or (rule.when is not None and not rule.when(beside)):
            continue
        for name in rule.fields.split():
            is_given = layers.is_given(f"trainer.{name}") or (rule.is_local and layers.last(f"trainer.{name}") >= 0)
            if name in values and is_given and not _agrees(values[name], rule.agrees):
                sentence = f"trainer.{name}={_shown(values[name])}: {rule.text.removesuffix('...')}"
                sentence += "..." if rule.text.endswith("...") else "."
                (refused if rule.refused and not (rule.is_local and is_elsewhere) else said).append(sentence)
    return Verdict(tuple(refused), tuple(said))


def unknown_words(verb: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each word that TRL would stumble over after the first completions are written, or never notice."""
    for name, known in WORDS.get(verb, {}).items():
        value = values.get(name)
        if isinstance(value, str) and value not in (*known, "True", "False"):  # a union of str and bool
            near = did_you_mean(value, known)
            yield f"trainer.{name}={value}: no such choice.{near} There is: {', '.join(known)}."


def impossible_numbers(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each number with which nothing could be trained, or only NaN. TRL takes them, and fails late or not
    at all. values: the fields of its config."""
    for name in COUNTS:
        value = values.get(name, 1)
        if value is None and name in MAY_BE_NULL:
            continue
        if value is None or not value >= 1:
            yield f"trainer.{name}={_shown(value)} must be at least 1."
    for name in FINITE:
        value = values.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            yield f"trainer.{name}={value} must be a finite number."
    for name in NUMBERS:
        if values.get(name) is not None and math.isnan(values[name]):
            yield f"trainer.{name}=nan must be a number."
    if not values.get("temperature", 1.0) > 0:
        yield f"trainer.temperature={values['temperature']} must be above 0: the policy samples its completions."


def epochs_or_steps(config: DictConfig, layers: Layers) -> str | None:
    """TRL's max_steps overrules num_train_epochs. Here the one that was said later counts: a default gives way. Returns a
    sentence where the user set both, after having put max_steps=-1 where epochs count.

    Raises:
        ValueError: both are set in one place.
    """
    steps, epochs = layers.last("trainer.max_steps"), layers.last("trainer.num_train_epochs")
    if epochs < 0 or config.trainer.max_steps <= 0:
        return None
    limits = (
        f"trainer.max_steps={config.trainer.max_steps} and trainer.num_train_epochs={config.trainer.num_train_epochs}"
    )
    if epochs == steps:
        raise ValueError(f"{limits} both say when to stop, and max_steps would win. Give one of them.")
    if epochs > steps:
        config.trainer.max_steps = -1
        return None
    return f"{limits}: the steps of {layers.source('trainer.max_steps')} count."


def strange_fields(given: Iterable[str], known: Iterable[str], of: str) -> str | None:
    """A sentence about a field that TRL's config does not have; None if it has them all."""
    known = list(known)
    strange = [name for name in given if name not in known]
    if not strange:
        return None
    near = difflib.get_close_matches(strange[0], known, n=1, cutoff=0.5)
    if len(strange) <= 3:
        hint = f" Did you mean `trainer.{near[0]}`?" if near else ""
        return f"trainer.{strange[0]} is no field of {of}.{hint}"
    return (
        f"trainer: the chosen YAML does not belong to this command, whose {of} has no {', '.join(strange[:3])}; leave "
        "trainer=... out, or set its fields (trainer.key=...)."
    )


def _agrees(value: Any, harmless: tuple[Any, ...]) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in harmless)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def table() -> str:
    """The rules as a table in Markdown, for docs/running/settings.md."""
    lines = ["| field | commands | | what becomes of it |", "|---|---|---|---|"]
    for rule in RULES:
        names = ", ".join(f"`{name}`" for name in rule.fields.split())
        verbs = "all" if rule.verbs == ALL else ", ".join(verb.removeprefix("train_") for verb in rule.verbs)
        lines.append(f"| {names} | {verbs} | {'refused' if rule.refused else 'said'} | {rule.text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
    else:
        print(table())
