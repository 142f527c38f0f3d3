"""Checkpoints that resume exactly. TRL saves neither its step counter nor its rollout buffer, so a checkpoint is exact
only where a new generation batch begins: after a multiple of steps_per_generation * num_iterations micro-steps.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

# Written last into a checkpoint folder; a folder without it was cut off half-way and is not resumed from.
COMPLETE_MARK = "complete"


class SaveOnGenerationBoundary(TrainerCallback):
    """Puts off a due checkpoint to the next optimiser step after which rollouts are generated anew."""

    def __init__(self, trainer):
        self._trainer = trainer
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

    end: the run's last step if it is known, else 0. A checkpoint there is passed over too: transformers, resumed at
    `max_steps`, trains one step more, so a run that died in its last evaluation does its last steps again.
    """
    found = sorted(
        (path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rsplit("-", 1)[1].isdigit()),
        key=lambda path: int(path.name.rsplit("-", 1)[1]),
    )
    while found and (not (found[-1] / COMPLETE_MARK).exists() or 0 < end <= int(found[-1].name.rsplit("-", 1)[1])):
        shutil.rmtree(found.pop())
    return found[-1] if found else None
