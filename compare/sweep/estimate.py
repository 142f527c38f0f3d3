"""What a sweep will cost, as far as anything is known."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from compare.sweep.cells import Cell
from compare.sweep.check import complaint
from compare.sweep.display import duration
from compare.sweep.folder import SweepFolder, read_json
from compare.sweep.launch import Launch
from trainers.run.files import SUMMARY
from userio.words import word_of

_SIZES = ("max_steps", "max_completion_length", "per_device_train_batch_size", "gradient_accumulation_steps")


class Pace(NamedTuple):
    """What a finished cell took. rows: completions of a step, 0 where unknown."""

    start: float  # seconds before and after its steps
    step: float  # seconds
    steps: int
    rows: int


def estimate(
    folder: SweepFolder, cells: Sequence[Cell], todo: Sequence[Cell], launch: Launch, jobs: int
) -> Iterator[str]:
    """Cells, tokens and time; nothing is trained.

    Raises:
        ValueError: the first cell does not compose.
    """
    yield f"{len(cells)} cells, {len(cells) - len(todo)} finished, {len(todo)} to run, {jobs} at once, in {folder.path}"
    if not todo:
        return
    command = launch.compose_command(todo[0].overrides, folder.run_dir(todo[0]))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the cell {todo[0].id} cannot run:\n{complaint(done, command)}")
    composed: Any = OmegaConf.create(done.stdout)
    trainer = {key: OmegaConf.select(composed, f"trainer.{key}") for key in _SIZES}  # `${task.count}` is looked up
    longest = trainer["max_completion_length"] or 0
    rows = (trainer["per_device_train_batch_size"] or 0) * (trainer["gradient_accumulation_steps"] or 1)
    rows *= launch.processes
    steps = [_steps_of(cell, trainer["max_steps"] or 0) for cell in todo]
    least, most = min(steps), max(steps)
    if least > 0:
        upper = f", at most {most * rows * longest / 1e6:.3g} M generated tokens" if rows and longest else ""
        yield f"each cell: {least if least == most else f'{least} to {most}'} steps{upper}"
    paces, source = known_paces(folder, todo)
    if not paces:
        yield f"time: unknown until the first cell of a sweep here has finished{source}"
        return
    seconds = [cell_seconds(paces, count, rows) for count in steps]
    whole = max(sum(seconds) / min(jobs, len(todo)), *seconds)
    by = "" if least > 0 else ", whatever its number of steps"
    yield f"time: about {duration(whole)}, {duration(fmean(seconds))} a cell{by}, by the pace of {source}"


def cell_seconds(paces: Sequence[Pace], steps: int, rows: int) -> float:
    """What a cell of so many steps may take: the mean start, and so much a step, in proportion to its completions. steps
    0, not known: as many as those had."""
    each = [pace.step * (rows / pace.rows if rows and pace.rows else 1.0) for pace in paces]
    count = steps if steps > 0 else fmean(pace.steps for pace in paces)
    return fmean(pace.start for pace in paces) + count * fmean(each)


def known_paces(folder: SweepFolder, todo: Sequence[Cell]) -> tuple[list[Pace], str]:
    """Finished cells to go by, and where they are: this sweep's, else its neighbours' that ran the same task and model."""
    wanted, others = {cell.model for cell in todo}, False
    neighbours = sorted(path.parent for path in folder.path.parent.glob("*/sweep.json") if path.parent != folder.path)
    for roots, source in (
        ([folder.path], "finished cells of this sweep"),
        (neighbours, "cells of neighbouring sweeps"),
    ):
        found = [(cell, pace) for root in roots for cell in _cells_in(root) if (pace := _pace(SweepFolder(root), cell))]
        if same := [pace for cell, pace in found if cell.model in wanted]:
            return same, source
        others |= bool(found)
    return [], " (those near it ran another task or model)" if others else ""


def _steps_of(cell: Cell, otherwise: int) -> int:
    """Steps of a cell: its own word for them, else what the configuration says."""
    said = [word_of(text) for text in cell.overrides]
    own = [word.text for word in said if word.name == "trainer.max_steps" and word.text.isdigit()]
    return int(own[-1]) if own else otherwise


def _cells_in(root: Path) -> list[Cell]:
    """The cells of a sweep; none where its file is broken."""
    try:
        return [Cell.of_json(cell) for cell in read_json(root / "sweep.json").get("cells", ())]
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return []


def _pace(folder: SweepFolder, cell: Cell) -> Pace | None:
    """None: not finished, or its files do not say."""
    try:
        state = folder.state(cell)
        summary = read_json(folder.run_dir(cell) / SUMMARY)
        whole, steps = float(state["seconds"]), int(summary["steps"])
        trained = min(float(summary.get("seconds", whole)), whole)
        rows = int(summary.get("completions_per_step") or 0)
        finished = state.get("state") == "finished"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Pace(whole - trained, trained / steps, steps, rows) if finished and steps > 0 else None
