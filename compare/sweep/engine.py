"""Runs the cells: `jobs` at a time, each behind its guard; what is finished stays finished whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from compare.sweep.cells import Cell
from compare.sweep.folder import SweepFolder
from compare.sweep.launch import Launch, cores_of_slot
from compare.sweep.progress import CellProgress
from compare.sweep.supervisor import BUSY

TAIL_LINES = 40
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_BETWEEN_LOOKS = 0.2  # seconds


@dataclass
class Status:
    """Where every cell stands, for whoever displays it."""

    cells: tuple[Cell, ...]
    jobs: int
    state: dict[str, str] = field(default_factory=dict)
    progress: dict[str, CellProgress] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of finished cells, all attempts
    started: float = field(default_factory=time.monotonic)

    def count(self, state: str) -> int:
        return sum(value == state for value in self.state.values())

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the whole sweep; None before anything is known."""
        running = [self.progress[c.id].seconds_left for c in self.cells if self.state[c.id] == "running"]
        known = [left for left in running if left is not None]
        whole = list(self.seconds.values()) or [
            total
            for c in self.cells
            if c.id in self.progress and (total := self.progress[c.id].seconds_total) is not None
        ]
        if not whole:
            return None
        mean = sum(whole) / len(whole)
        work = sum(known) + (len(running) - len(known)) * mean + self.count("pending") * mean
        return max(work / self.jobs, max(known, default=0.0))


@dataclass
class _Running:
    cell: Cell
    guard: subprocess.Popen
    began: float
    log_start: int


def run_cells(
    folder: SweepFolder,
    cells: Sequence[Cell],
    launch: Launch,
    jobs: int,
    keep_checkpoints: bool = False,
    keep_models: bool = True,
    watch: Callable[[Status], None] = lambda status: None,
) -> Status:
    """Runs every cell that is not finished, failed ones of earlier commands included. Returns when none is left.

    A cell that fails is recorded with the end of its log; the others go on. On KeyboardInterrupt, or any other
    exception, running cells are stopped, recorded as such, and the exception goes on its way.
    """
    status = Status(tuple(cells), jobs)
    for cell in cells:
        status.state[cell.id] = "finished" if folder.is_finished(cell) else "pending"
        if folder.is_finished(cell):
            _finish(folder, cell, status, keep_checkpoints, keep_models)
    waiting = [cell for cell in cells if status.state[cell.id] == "pending"]
    slots: dict[int, _Running | None] = dict.fromkeys(range(jobs))
    try:
        while waiting or any(slots.values()):
            for slot, running in slots.items():
                if running is not None and running.guard.poll() is not None:
                    _conclude(folder, running, status, keep_checkpoints, keep_models)
                    slots[slot] = running = None
                if running is None and waiting:
                    slots[slot] = _start(folder, waiting.pop(0), launch, slot, jobs, status)
            watch(status)
            time.sleep(_BETWEEN_LOOKS)
    finally:
        _stop(folder, [running for running in slots.values() if running is not None], status)
    watch(status)
    return status


def run_one(folder: SweepFolder, cell: Cell, launch: Launch, keep_checkpoints: bool, keep_models: bool) -> bool:
    """One cell with all cores, for a launcher that schedules cells itself. True if it is finished."""
    return run_cells(folder, [cell], launch, 1, keep_checkpoints, keep_models).count("finished") == 1


def tail(log: Path, start: int = 0, lines: int = TAIL_LINES) -> str:
    """The last lines written to the log since byte `start`, without the traceback that accelerate's launcher adds when
    a process it started has failed: it says nothing of the reason, which stands before it."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 64 * 1024))
        text = file.read().decode("utf-8", errors="replace")
    before, _, last = text.rpartition("Traceback (most recent call last):\n")
    if before and "accelerate/commands/" in last:
        text = before
    return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])


def _start(folder: SweepFolder, cell: Cell, launch: Launch, slot: int, jobs: int, status: Status) -> _Running:
    log, run_dir = folder.log(cell), folder.run_dir(cell).absolute()
    cores = cores_of_slot(slot, jobs)
    command = launch.command(cell.overrides, run_dir)
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        log_start = file.tell()
    with _bound_to(cores):
        guard = subprocess.Popen(
            [sys.executable, str(_SUPERVISOR), str(folder.lock(cell)), str(log), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log.open("ab"),
            start_new_session=True,
            env=launch.environment(slot, jobs, cores),
        )
    attempts = folder.state(cell).get("attempts", 0) + 1
    folder.set_state(cell, state="running", attempts=attempts, cores=cores, pid=guard.pid, began=time.time(), error="")
    status.state[cell.id] = "running"
    status.progress[cell.id] = CellProgress(run_dir)
    return _Running(cell, guard, time.monotonic(), log_start)


def _conclude(
    folder: SweepFolder, running: _Running, status: Status, keep_checkpoints: bool, keep_models: bool
) -> None:
    cell, code = running.cell, running.guard.returncode
    seconds = folder.state(cell).get("seconds", 0.0) + time.monotonic() - running.began
    if folder.is_finished(cell):
        folder.set_state(cell, state="finished", returncode=code, seconds=round(seconds, 3), ended=time.time())
        _finish(folder, cell, status, keep_checkpoints, keep_models)
        return
    error = tail(folder.log(cell), running.log_start)
    if code == BUSY:
        error = f"Another process still works on this cell ({folder.lock(cell)} is held).\n{error}"
    elif code == 0:
        error = f"The command ended well but left no summary.json.\n{error}"
    folder.set_state(cell, state="failed", returncode=code, seconds=round(seconds, 3), ended=time.time(), error=error)
    status.state[cell.id] = "failed"


def _finish(folder: SweepFolder, cell: Cell, status: Status, keep_checkpoints: bool, keep_models: bool) -> None:
    """Also for cells found finished: the sweep may have died between their summary and their state."""
    state = folder.state(cell)
    if state.get("state") != "finished":
        folder.set_state(cell, state="finished", error="")
    if state.get("seconds"):
        status.seconds[cell.id] = state["seconds"]
    status.state[cell.id] = "finished"
    status.progress[cell.id] = CellProgress(folder.run_dir(cell))
    folder.tidy(cell, keep_checkpoints, keep_models)


def _stop(folder: SweepFolder, left: list[_Running], status: Status) -> None:
    for running in left:
        assert running.guard.stdin is not None
        running.guard.stdin.close()  # the guard takes it from here
    for running in left:
        running.guard.wait()
        finished = folder.is_finished(running.cell)
        seconds = folder.state(running.cell).get("seconds", 0.0) + time.monotonic() - running.began
        state = "finished" if finished else "stopped"
        folder.set_state(running.cell, state=state, seconds=round(seconds, 3), ended=time.time())
        status.state[running.cell.id] = state


@contextmanager
def _bound_to(cores: Sequence[int]) -> Iterator[None]:
    """Processes started inside inherit the binding."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
