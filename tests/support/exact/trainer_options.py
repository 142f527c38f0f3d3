"""Trainer options of the exactness test: what the command line gives, and what a strategy requires."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields

import yaml
from trl import GRPOConfig

from credit.requires import unmet

# Decided by the replay; another value would compare two different things.
RESERVED = frozenset(
    [
        "output_dir",
        "seed",
        "optim",
        "learning_rate",
        "max_steps",
        "num_train_epochs",
        "use_cpu",
        "bf16",
        "fp16",
        "report_to",
    ]
    + ["per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "generation_batch_size"]
    + ["num_iterations", "num_generations", "shuffle_dataset", "pad_to_multiple_of"]
)


def given_options(words: Sequence[str]) -> dict[str, object]:
    """`--set trainer.beta=0.1` and so on, by name.

    Raises:
        ValueError: not of the form trainer.key=value, no such field, or one that the test decides itself.
    """
    known = {entry.name for entry in fields(GRPOConfig)}
    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.removeprefix("trainer.")
        if not equals or name == key:
            raise ValueError(f"--set {word}: write trainer.<field>=<value>, e.g. --set trainer.beta=0.1.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean trainer.{near[0]}?" if near else ""
            raise ValueError(f"--set {word}: GRPOConfig has no field {name!r}.{hint}")
        if name in RESERVED:
            raise ValueError(
                f"--set {word}: how the batch is cut and drawn is what this test varies; leave {name} to it."
            )
        options[name] = yaml.safe_load(value)
    return options


def required_options(requires: Mapping[str, object], options: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Values that meet what a strategy requires and `options` do not, where one can be named; else the user has to give it."""
    defaults = {entry.name: entry.default for entry in fields(GRPOConfig) if entry.default is not MISSING}
    for name, wanted in requires.items():
        if name in RESERVED or not any(unmet({name: wanted}, {name: {**defaults, **options}.get(name)})):
            continue
        bound = re.fullmatch(r"\s*([<>]=?)\s*(\S+)\s*", str(wanted))
        if bound:
            step = {">": 0.04, "<": -0.04}.get(bound.group(1), 0.0)
            yield name, float(bound.group(2)) + step
        elif wanted != "given":
            yield name, wanted[0] if isinstance(wanted, Sequence) and not isinstance(wanted, str) else wanted
