"""Where in a run a model stands: the start, a checkpoint, the finished model; and those that `checkpoints=` asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.compose import ConfigError
from trainers.evaluation.models import model_at
from trainers.run.files import CHECKPOINTS, CONFIG, MODEL, SUMMARY

ALL, START = "all", 0
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SHOWN = 12  # steps that a message lists


@dataclass(frozen=True)
class Stage:
    """A model of a run.

    Args:
        run: its folder. step: optimiser steps that were taken; None: nobody says. place: of the weights; None: what the run began with.
    """

    run: str
    step: int | None
    place: str | None


def stage_at(name: str) -> Stage | None:
    """Of a folder of weights, as it was named: a run's checkpoint or finished model, or a checkpoint of anybody's; None: neither."""
    folder = Path(name).expanduser()
    found = _CHECKPOINT.fullmatch(folder.name)
    if not folder.is_dir() or (found is None and folder.name != MODEL):
        return None
    beside = folder.parent
    run = beside.parent if beside.name == CHECKPOINTS else beside
    if found is not None:
        return Stage(str(run), int(found[1]), str(folder))
    return Stage(str(run), _finished_at(run), str(folder)) if (run / CONFIG).is_file() else None


def run_of(name: str) -> str:
    """The folder of the run that `run=` names: itself, or that of its checkpoint."""
    own = stage_at(name)
    return own.run if own is not None and (Path(own.run) / CONFIG).is_file() else str(Path(name).expanduser())


def check_is_run(folder: Path) -> None:
    """Raises ConfigError: nothing there says how a model was trained."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"run={folder} holds no {CONFIG}: it is no folder of a run of train_grpo.py (looked in {Path.cwd()}). Of another model: "
            "model=hf model.name=... task=..."
        )


def stage_of_run(name: str) -> Stage:
    """Of `run=`: the finished model of a run, else its last checkpoint; or the checkpoint itself that is named.

    Raises:
        ConfigError: no model there.
    """
    place = str(model_at(name).place)
    found = stage_at(place)
    return Stage(run_of(name), found and found.step, place)


def stages_of(run: str, asked: object) -> list[Stage]:
    """Those of `checkpoints=`, by step, each once. asked: `all`, a step or several; 0 is the model that the run began with.

    Raises:
        ConfigError: there is no run, it is no step, or the run has kept no model of it.
    """
    check_is_run(Path(run).expanduser())
    there = _kept(Path(run).expanduser())
    steps = [START, *there] if asked == ALL else _steps(asked)
    missing = [step for step in steps if step != START and step not in there]
    if missing:
        kept = [str(step) for step in there]
        listed = ", ".join(kept if len(kept) <= _SHOWN else [*kept[:_SHOWN], f"... ({len(kept)} in all)"])
        raise ConfigError(
            f"checkpoints={','.join(map(str, steps))}: {run} holds no model of step {', '.join(map(str, missing))}. "
            f"{f'It has kept {listed}' if kept else 'It has kept none'}; 0 is its start, all is all of them. A run keeps more with "
            "trainer.save_steps=... trainer.save_total_limit=... ."
        )
    return [Stage(str(Path(run).expanduser()), step, there.get(step)) for step in sorted(set(steps))]


def _kept(run: Path) -> dict[int, str]:
    """Folder by step; of a step that has both, the checkpoint."""
    found = {}
    finished = _finished_at(run)
    if finished is not None and _has_model(run / MODEL):
        found[finished] = str(run / MODEL)
    for folder in (run / CHECKPOINTS).glob("checkpoint-*"):
        name = _CHECKPOINT.fullmatch(folder.name)
        if name and _has_model(folder):
            found[int(name[1])] = str(folder)
    return dict(sorted(found.items()))


def _has_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("config.json", "adapter_config.json"))


def _finished_at(run: Path) -> int | None:
    try:
        steps = json.loads((run / SUMMARY).read_text(encoding="utf-8")).get("steps")
    except (OSError, ValueError, AttributeError):
        return None
    return steps if isinstance(steps, int) else None


def _steps(asked: object) -> list[int]:
    listed = list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else str(asked).split(",")
    texts = [str(one).strip() for one in listed if str(one).strip()]
    if not texts or not all(text.isascii() and text.isdigit() for text in texts):
        raise ConfigError(f"checkpoints={asked}: give steps that the run has kept (checkpoints=0,20,40), or all.")
    return [int(text) for text in texts]
