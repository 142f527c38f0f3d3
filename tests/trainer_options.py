"""`--set trainer.beta=0.1` of the exactness test."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields

import yaml
from exactness import RESERVED
from trl import GRPOConfig


def given_options(words: Sequence[str]) -> dict[str, object]:
    """Trainer options by name.

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
