"""Which runs a command names among its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainers.command.behind.brings import chosen, config_of, run_behind
from userio.words import word_of


def runs_named(config: DictConfig) -> dict[str, Path]:
    """Word -> folder of the run that it stands for, each run once; words that name no run are left out.

    Args:
        config: with `models`, `run` or `model.name`.
    """
    node: Any = OmegaConf.to_container(config, resolve=False)
    models = node.get("models") or []
    words = [node.get("run"), (node.get("model") or {}).get("name"), *([models] if isinstance(models, str) else models)]
    found = {}
    for word in map(str, filter(None, words)):
        is_pattern = has_magic(word) and not Path(word).exists()
        for place in sorted(glob(str(Path(word).expanduser()))) if is_pattern else [word]:
            if (run := run_behind(place)) is not None and run not in found.values():
                found[place] = run
    return found


def trained_for_another(name: str, config: DictConfig, choices: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """A sentence where a training command begins at a run's model, names no task, and so has another than that run had."""
    if not name.startswith("train") or any(word_of(word).name == "task" for word in words):
        return []
    found = []
    for word, run in runs_named(config).items():
        said = config_of(run, word)
        if "task" in said and (own := chosen(run, said, "task")) != choices["task"]:
            found.append(
                f"{word} was trained on task={own}; this one trains on task={choices['task']}, since none is named."
            )
    return found
