"""Checkpoints that resume exactly. TRL saves neither its step counter nor its rollout buffer, so a checkpoint is exact
only where a new generation batch begins: after a multiple of steps_per_generation * num_iterations micro-steps.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from trainers.seam.members import refuse_lost

# Written last into a checkpoint folder; a folder without it was cut off half-way and is not resumed from.
COMPLETE_MARK = "complete"


class SaveOnGenerationBoundary(TrainerCallback):
    """Puts off a due checkpoint to the next optimiser step after which rollouts are generated anew."""

    def __init__(self):
        self._due = False

    def on_step_end(self, args, state, control, **kwargs):
        self._due = self._due or control.should_save
        at_boundary = (state.global_step * args.gradient_accumulation_steps) % generation_period(args) == 0
        control.should_save = self._due and (at_boundary or state.global_step >= state.max_steps)
        self._due = self._due and not control.should_save
        return control


def generation_period(args) -> int:
    """Micro-steps between two generation batches."""
    return args.steps_per_generation * args.num_iterations


def last_complete_checkpoint(folder: str | Path, end: int = 0) -> Path | None:
    """The newest checkpoint that was written to its end; None if there is none. Half-written newer ones are removed, as
    the run is about to write them again.

    end: the run's last step if its settings say so, else 0: then the checkpoint's own word counts. A checkpoint there is
    passed over too: transformers, resumed at `max_steps`, trains one step more, so a run that died in its last evaluation
    does its last steps again.
    """
    found = _checkpoints(folder)
    while found and not _is_whole(found[-1], end):
        shutil.rmtree(found.pop())
    return found[-1] if found else None


def refuse_unresumable(folder: str | Path, end: int = 0) -> None:
    """Raises ValueError if the checkpoint that `last_complete_checkpoint` would find lacks what resuming exactly needs.

    Deletes nothing: it is asked before a model is loaded."""
    whole = [path for path in _checkpoints(folder) if _is_whole(path, end)]
    if not whole:
        return
    if not any(whole[-1].glob("rng_state*.pth")):
        raise ValueError(
            f"{whole[-1]} holds a model but neither its optimiser nor its random states (trainer.save_only_model=true leaves them "
            "out), so the run cannot go on from there. Start it again with overwrite=true, and save_only_model=false if it is to "
            "be resumed."
        )
    refuse_lost(whole[-1])


def last_step(folder: str | Path, before: int | None = None) -> int:
    """The step of the newest checkpoint that was written to its end, before a step; 0 without one."""
    steps = [_step_of(path) for path in _checkpoints(folder) if (path / COMPLETE_MARK).exists()]
    return max((step for step in steps if before is None or step < before), default=0)


def place_of(device: torch.device) -> torch.device | str:
    """Where a rank's tensors of a checkpoint go. accelerate calls the CPU of several ranks cpu:0, which torch does not load to."""
    return "cpu" if device.type == "cpu" else device


def _checkpoints(folder: str | Path) -> list[Path]:
    """Oldest first."""
    return sorted(
        (path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rsplit("-", 1)[1].isdigit()),
        key=_step_of,
    )


def _is_whole(checkpoint: Path, end: int) -> bool:
    return (checkpoint / COMPLETE_MARK).exists() and not 0 < (end or _end_of(checkpoint)) <= _step_of(checkpoint)


def _end_of(checkpoint: Path) -> int:
    """The last step of a run that counts epochs, which only its trainer knew; 0: not said."""
    state = checkpoint / TRAINER_STATE_NAME
    return int(json.loads(state.read_text(encoding="utf-8")).get("max_steps") or 0) if state.is_file() else 0


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])
