"""Which runs a command names among its models."""

from __future__ import annotations

from glob import glob, has_magic
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainers.command.behind.brings import run_behind


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
