"""What a person sees while a sweep goes on: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compare.sweep.engine import Status

_STYLES = {"finished": "green", "running": "bold", "failed": "red", "stopped": "yellow", "pending": "dim"}
_ORDER = ("running", "failed", "stopped", "pending", "finished")


class Lines:
    """One line whenever a cell changes its state."""

    def __init__(self, console: Console):
        self._console, self._before = console, {}

    def __call__(self, status: Status) -> None:
        for cell in status.cells:
            state = status.state[cell.id]
            if self._before.get(cell.id, "pending") != state:
                progress = status.progress.get(cell.id)
                if progress:
                    progress.refresh()
                reward = f"  reward {progress.reward:.3f}" if progress and progress.reward is not None else ""
                seconds = f"  {duration(status.seconds[cell.id])}" if cell.id in status.seconds else ""
                left = status.seconds_left
                rest = f"  (about {duration(left)} left)" if left else ""
                line = f"[{status.count('finished')}/{len(status.cells)}] {cell.id}: {state}{reward}{seconds}{rest}"
                self._console.print(Text(line), soft_wrap=True)
            self._before[cell.id] = state


class LiveTable:
    """The table, redrawn in place; as many rows as fit, those that matter first."""

    def __init__(self, live: Live, console: Console):
        self._live, self._console, self._next = live, console, 0.0

    def __call__(self, status: Status) -> None:
        if time.monotonic() >= self._next or not status.count("running"):
            self._next = time.monotonic() + 0.5
            for cell in status.cells:
                if status.state[cell.id] in ("running", "finished") and cell.id in status.progress:
                    status.progress[cell.id].refresh()
            self._live.update(table(status, self._console.size.height - 5), refresh=True)


@contextmanager
def display(console: Console) -> Iterator[Lines | LiveTable]:
    """Something to call with a `Status` now and then."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield LiveTable(live, console)


def table(status: Status, rows: int) -> Group:
    """The status as something rich can draw."""
    grid = Table("cell", "state", "step", "reward", "time left", box=None, pad_edge=False)
    for column in grid.columns[2:]:
        column.justify = "right"
    ordered = sorted(status.cells, key=lambda cell: _ORDER.index(status.state[cell.id]))
    rows = max(3, rows)
    for cell in sorted(ordered[:rows], key=status.cells.index):
        state, progress = status.state[cell.id], status.progress.get(cell.id)
        step = reward = left = ""
        if progress and progress.step is not None:
            step = f"{progress.step}/{progress.max_steps}" if progress.max_steps else str(progress.step)
            reward = "" if progress.reward is None else f"{progress.reward:.3f}"
        if state == "running" and progress:
            left = duration(progress.seconds_left)
        elif state == "finished":
            left = f"took {duration(status.seconds[cell.id])}" if cell.id in status.seconds else ""
        grid.add_row(Text(cell.id), Text(state, style=_STYLES[state]), step, reward, left)
    hidden = len(status.cells) - min(rows, len(status.cells))
    counts = ", ".join(f"{status.count(state)} {state}" for state in _ORDER if status.count(state))
    spent = duration(time.monotonic() - status.started)
    more = f"{hidden} more cells. " if hidden else ""
    open_cells = status.count("running") + status.count("pending")
    left = f" so far, about {duration(status.seconds_left)} left" if open_cells else ""
    return Group(grid, Text(f"{more}{counts}. {spent}{left}.", style="dim"))


def duration(seconds: float | None) -> str:
    """42 s, 3 min 20 s, 2 h 05 min; "?" when unknown."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
