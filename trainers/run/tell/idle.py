"""A run from which nothing can be learned says so while it runs, and not by a flat curve at its end.

A step is idle where its reward is no number (every function abstained) or the same for all completions; of likelihood training,
where the loss is no number or the very one of the step before.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback

from trainers.run.files import read_metrics

PATIENCE = 10  # idle steps in a row, after which it is said
NOTHING_LEARNED = 3  # exit status of a run all of whose steps, and PATIENCE at least, were idle


class Stretch(NamedTuple):
    """Idle steps in a row, `first` to `last`, and what the last row logged."""

    first: int
    last: int
    row: Mapping[str, Any]

    @property
    def steps(self) -> int:
        return self.last - self.first + 1


class IdleSteps(TrainerCallback):
    """Says on standard error when `PATIENCE` steps in a row have been idle, and when that is over. Main process only.

    Args:
        key: "reward" or "loss".
        path: metrics.jsonl, for a run that goes on.
    """

    def __init__(self, key: str, path: Path):
        self._key, self._path = key, path
        self._before: Mapping[str, Any] | None = None
        self._now: Stretch | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        for row in read_metrics(self._path):
            self._take(row)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or self._key not in logs:
            return
        was_told = self._is_long
        self._take({"step": state.global_step, **logs})
        if self._is_long is not was_told:
            said = f"the {self._key} varies again"
            if self._now is not None:
                said = (
                    f"{why_idle(self._now.row, self._key)} for {self._now.steps} steps: nothing can be learned from it"
                )
            print(f"\nstep {state.global_step}: {said}.", file=sys.stderr, flush=True)

    @property
    def _is_long(self) -> bool:
        return self._now is not None and self._now.steps >= PATIENCE

    def _take(self, row: Mapping[str, Any]) -> None:
        if self._key in row:
            self._now = _grown(self._now, row, self._before, self._key)
            self._before = row


def idle_summary(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """What summary.json says of the longest stretch: `steps`, `first`, `of` all steps, and `why` in words; nothing where it
    is shorter than `PATIENCE`. rows: of metrics.jsonl."""
    longest = max(stretches(rows, key), key=lambda stretch: stretch.steps, default=None)
    if longest is None or longest.steps < PATIENCE:
        return {}
    last = max(row["step"] for row in rows if key in row)
    return {
        "idle": {"steps": longest.steps, "first": longest.first, "of": last, "why": why_idle(longest.row, key)},
    }


def learned_nothing(summary: Mapping[str, Any]) -> bool:
    """Whether all steps of a run were idle."""
    idle = summary.get("idle")
    return bool(idle) and idle["steps"] == idle["of"]


def stretches(rows: Iterable[Mapping[str, Any]], key: str) -> Iterable[Stretch]:
    """All of them; a row stands for the steps since the one before it."""
    before, now = None, None
    for row in rows:
        if key not in row:
            continue
        grown = _grown(now, row, before, key)
        if now and not grown:
            yield now
        before, now = row, grown
    if now:
        yield now


def _grown(now: Stretch | None, row: Mapping[str, Any], before: Mapping[str, Any] | None, key: str) -> Stretch | None:
    """A stretch with one row more; None where that row is not idle."""
    if not _is_idle(row, before, key):
        return None
    first = now.first if now else (before["step"] if before else 0) + 1
    return Stretch(first, row["step"], row)


def why_idle(row: Mapping[str, Any], key: str) -> str:
    """Why a row is idle: `the reward has been 0 for every completion`."""
    value = _number(row.get(key))
    if value is None:
        return f"the {key} has been no number" + (" (every reward function abstained)" if key == "reward" else "")
    return f"the {key} has been {value:g}" + (" for every completion" if key == "reward" else "")


def _is_idle(row: Mapping[str, Any], before: Mapping[str, Any] | None, key: str) -> bool:
    value = _number(row[key])
    if value is None:
        return True
    if key == "loss":
        return before is not None and before[key] == row[key]
    spread = _number(row.get("reward_std"))
    return spread is not None and spread <= 1e-6 * max(1.0, abs(value))  # of equal float32, not always 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
