"""Before the first cell: does every arm compose, is the shared start built, and what will it cost?"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from compare.sweep.cells import Cell
from compare.sweep.display import duration
from compare.sweep.folder import SweepFolder, read_json
from compare.sweep.launch import Launch

_SIZES = ("max_steps", "max_completion_length", "per_device_train_batch_size", "gradient_accumulation_steps")


def check_cells(
    folder: SweepFolder, cells: Sequence[Cell], launch: Launch, jobs: int, say: Callable[[str], Any]
) -> None:
    """Composes one cell of each arm and builds the shared start once per task and model, before any cell runs; other
    cells find it in the cache. What passed is not asked again when the sweep is resumed. Arms that compose to the same run
    are refused.

    Raises:
        ValueError: the first complaint, with the cell it came from.
    """
    passed = set(read_json(folder.manifest).get("checked", ()))
    arms = [cell for cell in _first_of(cells, lambda c: (c.arm, c.task, c.model)) if cell.id not in passed]
    built = {cell["model"] for cell in read_json(folder.manifest).get("cells", ()) if cell["id"] in passed}
    builds = {cell.id for cell in _first_of(arms, lambda c: c.model) if cell.model not in built}
    if not arms:
        return
    say(f"checking {len(arms)} configurations, building {len(builds)} shared starts (slow only the first time)")

    def check(cell: Cell) -> Any:
        """What the cell composes to, once its start is built."""
        root = folder.path.absolute() / "build"
        if cell.id in builds:
            _printed_by(launch.build_command(cell.overrides, root), cell)
        return _meaning(_printed_by(launch.compose_command(cell.overrides, root), cell))

    with ThreadPoolExecutor(jobs) as pool:
        ordered = sorted(arms, key=lambda cell: cell.id not in builds)
        composed = dict(zip((cell.id for cell in ordered), pool.map(check, ordered), strict=True))
    _refuse_twins(arms, composed)
    folder.note(checked=sorted(passed | {cell.id for cell in arms}))


def _printed_by(command: Sequence[str], cell: Cell) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        message = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        raise ValueError(f"the cell {cell.id} cannot run, so nothing was started:\n{message}")
    return done.stdout


def _meaning(printed: str) -> Any:
    """A composed configuration as plain data, but for what a strategy is called."""
    config = OmegaConf.create(printed)
    OmegaConf.update(config, "credit.name", None)
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config)  # what it refers to is missing; the run will say so


def _refuse_twins(arms: Sequence[Cell], composed: Mapping[str, Any]) -> None:
    """Raises ValueError: two arms differ in words and not in what runs."""
    for i, cell in enumerate(arms):
        for other in arms[:i]:
            if cell.seed == other.seed and composed[cell.id] == composed[other.id]:
                raise ValueError(
                    f"the cells {other.id} and {cell.id} compose to the same run, so an arm would be compared with itself, "
                    "and nothing was started. Take one of them out."
                )


def estimate(
    folder: SweepFolder, cells: Sequence[Cell], todo: Sequence[Cell], launch: Launch, jobs: int
) -> Iterator[str]:
    """Cells, tokens and time, as far as anything is known; nothing is trained.

    Raises:
        ValueError: the first cell does not compose.
    """
    yield f"{len(cells)} cells, {len(cells) - len(todo)} finished, {len(todo)} to run, {jobs} at once, in {folder.path}"
    if not todo:
        return
    done = subprocess.run(
        launch.compose_command(todo[0].overrides, folder.run_dir(todo[0])), capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"the cell {todo[0].id} cannot run:\n{done.stderr.strip() or done.stdout.strip()}")
    composed: Any = OmegaConf.create(done.stdout)
    trainer = {key: OmegaConf.select(composed, f"trainer.{key}") for key in _SIZES}  # `${task.count}` is looked up
    steps, longest = trainer["max_steps"] or 0, trainer["max_completion_length"] or 0
    rows = (trainer["per_device_train_batch_size"] or 0) * (trainer["gradient_accumulation_steps"] or 1)
    rows *= launch.processes
    if steps > 0:
        upper = f", at most {steps * rows * longest / 1e6:.3g} M generated tokens" if rows and longest else ""
        yield f"each cell: {steps} steps{upper}"
    seconds, source = _seconds_per_cell(folder)
    if seconds is None:
        yield "time: unknown until the first cell of a sweep here has finished"
    else:
        yield f"time: about {duration(seconds * len(todo) / min(jobs, len(todo)))}, from {source}"


def _seconds_per_cell(folder: SweepFolder) -> tuple[float | None, str]:
    for root, source in (
        (folder.path, "finished cells of this sweep"),
        (folder.path.parent, "cells of neighbouring sweeps"),
    ):
        files = root.glob("state/*.json") if root == folder.path else root.glob("*/state/*.json")
        known = [seconds for path in files if (seconds := _seconds_of(Path(path)))]
        if known:
            return sum(known) / len(known), source
    return None, ""


def _seconds_of(path: Path) -> float | None:
    """What a finished cell took; None if it is not finished, or if a neighbour's file is broken."""
    try:
        state = read_json(path)
    except (OSError, ValueError):
        return None
    seconds = state.get("seconds") if isinstance(state, dict) and state.get("state") == "finished" else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _first_of(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[Cell]:
    return list({key(cell): cell for cell in reversed(cells)}.values())[::-1]
