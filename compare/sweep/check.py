"""Before the first cell: does every arm compose, and is the shared start built?"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from compare.sweep.cells import Cell
from compare.sweep.folder import SweepFolder, read_json
from compare.sweep.launch import Launch


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
        raise ValueError(f"the cell {cell.id} cannot run, so nothing was started:\n{complaint(done, command)}")
    return done.stdout


def complaint(done: subprocess.CompletedProcess, command: Sequence[str]) -> str:
    """The end of what a command said, from its own refusal on, without what libraries print before it."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    scripts = [f"{Path(word).name}: " for word in command if word.endswith(".py")]
    begin = next((i for i, line in enumerate(lines) if line.startswith(tuple(scripts))), 0)
    return "\n".join(lines[begin:][-12:])


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


def _first_of(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[Cell]:
    return list({key(cell): cell for cell in reversed(cells)}.values())[::-1]
