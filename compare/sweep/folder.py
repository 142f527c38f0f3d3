"""The sweep folder: what was asked, where each cell stands, and who may write.

sweep.json          the command, the cells, versions, commit
cells/<id>/         the run folders, written by training
state/<id>.json     state, attempts, return code, times, the end of the log of a failure
logs/<id>.log       everything the cell printed, attempt after attempt
locks/              held by living processes; the system lets go of them when the holder dies
report/             made at the end
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.sweep.cells import Cell
from trainers.run.files import CHECKPOINTS, MODEL, SUMMARY, write_json


@dataclass(frozen=True)
class SweepFolder:
    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / "sweep.json"

    def run_dir(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.id

    def log(self, cell: Cell) -> Path:
        return self.path / "logs" / f"{cell.id}.log"

    def lock(self, cell: Cell) -> Path:
        return self.path / "locks" / f"{cell.id}.lock"

    def is_finished(self, cell: Cell) -> bool:
        """The trainer writes summary.json last."""
        return (self.run_dir(cell) / SUMMARY).is_file()

    def state(self, cell: Cell) -> dict[str, Any]:
        return read_json(self.path / "state" / f"{cell.id}.json")

    def set_state(self, cell: Cell, **changes: Any) -> None:
        path = self.path / "state" / f"{cell.id}.json"
        write_json(path, {**read_json(path), **changes})

    def prepare(self, cells: Sequence[Cell], fixed: Sequence[str], facts: dict[str, Any]) -> tuple[Cell, ...]:
        """Writes sweep.json; returns the cells of this command. Cells of earlier commands in the same folder stay, so
        a sweep may grow by seeds or arms.

        Raises:
            ValueError: the folder belongs to a sweep with other settings.
        """
        before = read_json(self.manifest)
        known = {cell["id"]: Cell.of_json(cell) for cell in before.get("cells", ())}
        changed = [cell.id for cell in cells if cell.id in known and known[cell.id].overrides != cell.overrides]
        if changed or (before and sorted(before["fixed"]) != sorted(fixed)):
            raise ValueError(
                f"{self.path} holds a sweep with other settings ({' '.join(before['fixed']) or 'none fixed'}). "
                "Name another sweep_dir=..., or start it again with overwrite=true."
            )
        for name in ("cells", "state", "logs", "locks"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        everything = {**known, **{cell.id: cell for cell in cells}}
        merged = {**before, **facts, "fixed": list(fixed), "cells": [cell.as_json() for cell in everything.values()]}
        write_json(self.manifest, merged)
        return tuple(cells)

    def note(self, **facts: Any) -> None:
        """Adds facts to sweep.json."""
        write_json(self.manifest, {**read_json(self.manifest), **facts})

    def clear(self) -> None:
        """Removes a sweep, and only a sweep.

        Raises:
            ValueError: the folder holds something else.
        """
        if self.path.exists() and any(self.path.iterdir()) and not self.manifest.is_file():
            raise ValueError(f"{self.path} holds something that is not a sweep; overwrite=true will not delete it.")
        for name in ("cells", "state", "logs", "report", "hydra"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.manifest.unlink(missing_ok=True)

    def tidy(self, cell: Cell, keep_checkpoints: bool, keep_models: bool) -> None:
        """Bounds the disk: drops what a finished cell no longer needs."""
        if not keep_checkpoints:
            shutil.rmtree(self.run_dir(cell) / CHECKPOINTS, ignore_errors=True)
        if not keep_models:
            shutil.rmtree(self.run_dir(cell) / MODEL, ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """One sweep command at a time.

        Raises:
            ValueError: another one is at work here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise ValueError(f"Another sweep (process {file.read().strip()}) is at work in {self.path}.") from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def read_json(path: Path) -> dict[str, Any]:
    """{} if the file is missing; a file is never half written (`write_json`)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
