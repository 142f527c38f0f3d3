"""How far a cell is, read off the files it writes."""

from __future__ import annotations

import time
from pathlib import Path

import yaml

from trainers.run.files import CONFIG, METRICS, metric_rows


class CellProgress:
    """Follows one run folder; `refresh` reads only what is new.

    Attributes:
        step, reward: the last ones logged; None before.
        max_steps: of the configuration; None while unknown.
    """

    def __init__(self, run_dir: Path, metric: str = "reward"):
        self._metrics, self._config, self._metric = run_dir / METRICS, run_dir / CONFIG, metric
        self._offset, self._began = 0, time.monotonic()
        self._first: tuple[int, float] | None = None
        self._latest: tuple[int, float] | None = None
        self.step: int | None = None
        self.reward: float | None = None
        self.max_steps: int | None = None

    def refresh(self) -> None:
        if self.max_steps is None and self._config.is_file():
            self.max_steps = _max_steps(self._config)
        if not self._metrics.is_file():
            return
        if self._metrics.stat().st_size < self._offset:
            self._offset = 0  # rewritten by a run that resumed
        with self._metrics.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._offset += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        for row in metric_rows(line.decode("utf-8", errors="replace")):
            if isinstance(row.get(self._metric), int | float):
                self.step, self.reward = int(row["step"]), float(row[self._metric])
                self._latest = (self.step, time.monotonic())
                self._first = self._first or self._latest

    @property
    def seconds_left(self) -> float | None:
        """By the pace since the first step seen; None until two steps are known."""
        if self.max_steps is None or self._pace is None or self.step is None:
            return None
        return max(0, self.max_steps - self.step) * self._pace

    @property
    def seconds_total(self) -> float | None:
        """What the whole cell may take, from the start of the process."""
        left = self.seconds_left
        return None if left is None else time.monotonic() - self._began + left

    @property
    def _pace(self) -> float | None:
        if not self._first or not self._latest or self._latest[0] <= self._first[0]:
            return None
        return (self._latest[1] - self._first[1]) / (self._latest[0] - self._first[0])


def _max_steps(config: Path) -> int | None:
    try:
        value = yaml.safe_load(config.read_text(encoding="utf-8"))["trainer"]["max_steps"]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and value > 0 else None
