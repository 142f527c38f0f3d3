"""The folder of an audit while it is measured: each batch is a file, so a killed audit goes on where it was, to the same bits.

<audit>/settings.json             what a batch depends on
<audit>/batches/warm.pt           what members and critics have learned before the first batch
<audit>/batches/0003.pt           sketches and facts of a batch, by the main process
<audit>/batches/0003.rows-1.pt    tokens of a rank and what they are worth to each strategy, for the shares of the update
<audit>/batches/0003.shares.pt    what each slice of the tokens gave
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from trainers.run.files import whole, write_json

SETTINGS, BATCHES, RESULT = "settings.json", "batches", "collected.pt"


class Store:
    """Args: `folder`: of the audit; `writes`: whether this is the main process."""

    def __init__(self, folder: Path, writes: bool):
        self.folder, self.writes = folder, writes

    def begin(self, facts: dict[str, Any], overwrite: bool) -> None:
        if self.writes:
            if overwrite:
                shutil.rmtree(self.folder / BATCHES, ignore_errors=True)
            (self.folder / BATCHES).mkdir(parents=True, exist_ok=True)
            write_json(self.folder / SETTINGS, facts)

    def batch(self, number: int) -> Path:
        return self._file(f"{number:04d}.pt")

    def rows(self, number: int, rank: int) -> Path:
        return self._file(f"{number:04d}.rows-{rank}.pt")

    def shares(self, number: int) -> Path:
        return self._file(f"{number:04d}.shares.pt")

    @property
    def warm(self) -> Path:
        return self._file("warm.pt")

    def done(self, ranks: int, with_rows: int) -> int:
        """Batches from the first on that are there whole; the first `with_rows` with the rows of all ranks."""
        number = 0
        while self.batch(number).is_file() and (
            number >= with_rows or all(self.rows(number, rank).is_file() for rank in range(ranks))
        ):
            number += 1
        return number

    def _file(self, name: str) -> Path:
        return self.folder / BATCHES / name


def put(path: Path, value: Any) -> None:
    """Whole or not at all."""
    with whole(path) as half:
        torch.save(value, half)


def get(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")
