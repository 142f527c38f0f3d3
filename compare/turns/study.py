"""What the recorded conversations of the runs of a report come to, arm by arm and by stage of the run.

Shapes: K turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compare import statistics as stats
from compare.read import Run
from compare.records import find_records
from compare.report.analysis import Analysis
from compare.turns.steps import TurnStep, read_step
from credit.turns.measures import ROUNDING

STAGES = 3  # of a run, equally long
MOST_STEPS = 24  # records of one run that are read, evenly spread
MARKS = ("credit/turns", "tools/call_frequency", "environments/failed")  # logged where conversations have turns
_ONE_EACH = "credit/turns"


@dataclass(frozen=True)
class TurnShares:
    """Of one run, over the recorded steps of a stage. What is of turns is a mean over completions.

    Attributes:
        share_K, net_K: of sum |A w|: what went to each turn, and with its sign. NaN where there was no credit at all.
        reached_K: share of the completions that have such a turn.
        earned_K: over scored completions; they sum to the mean reward of those with a turn. None where nobody said.
        idle: share of sum |A w| on turns that earned nothing.
    """

    share_K: NDArray[np.float64]
    net_K: NDArray[np.float64]
    reached_K: NDArray[np.float64]
    earned_K: NDArray[np.float64] | None
    idle: float | None
    completions: int


@dataclass(frozen=True)
class TurnStudy:
    """steps: run -> its recorded steps. skipped: what could not be read. arms: those that are shown, of factors each level as tuned."""

    arms: tuple[str, ...]
    ends: dict[str, float]  # task -> step up to which runs are compared
    steps: dict[tuple[str, str, int], tuple[TurnStep, ...]]
    skipped: tuple[tuple[Path, str], ...] = ()

    @property
    def stages(self) -> range:
        return range(STAGES)

    def bounds(self, task: str, stage: int) -> tuple[int, int]:
        """First and last step."""
        ends = [round(self.ends[task] * k / STAGES) for k in range(STAGES + 1)]
        return ends[stage] + 1, ends[stage + 1]

    def parts(self, arm: str, task: str, stages: Iterable[int]) -> list[TurnShares]:
        """One for each run that recorded something there."""
        wanted = [self.bounds(task, stage) for stage in stages]
        found = []
        for (run_arm, run_task, _), steps in sorted(self.steps.items()):
            inside = [one for one in steps if any(first <= one.step <= last for first, last in wanted)]
            if (run_arm, run_task) == (arm, task) and any(one.rows for one in inside):
                found.append(part_of(inside))
        return found

    def turns(self, task: str) -> int:
        """Of the conversation that has most."""
        of_task = [one for (_, where, _), steps in self.steps.items() if where == task for one in steps]
        return max((len(one.reached_K) for one in of_task), default=0)


def has_turns(run: Run) -> bool:
    """Whether the run logged conversations, of which one had several turns or called something."""
    return any(
        name in run.columns and bool(np.nanmax(run.columns[name], initial=0.0) > (1.0 if name == _ONE_EACH else 0.0))
        for name in MARKS
    )


def read_turns(analysis: Analysis) -> TurnStudy | None:
    """The records of the runs that are compared, up to the steps that all of them reached; None where no run has turns."""
    runs = [run for run in analysis.used if has_turns(run)]
    if not runs:
        return None
    steps, skipped = {}, []
    for run in runs:
        read = []
        for step, path in _some(run, analysis.steps[run.task]):
            try:
                read.append(read_step(step, path))
            except ValueError as error:
                skipped.append((path, str(error)))
        steps[run.arm, run.task, run.seed] = tuple(read)
    return TurnStudy(_shown(analysis), dict(analysis.steps), steps, tuple(skipped))


def part_of(steps: Sequence[TurnStep]) -> TurnShares:
    """Sums over steps, so that each completion and each bit of the update counts once."""
    push_K, net_K, reached_K = (
        _added([getattr(one, name) for one in steps]) for name in ("push_K", "net_K", "reached_K")
    )
    earned = [one.earned_K for one in steps]
    told = all(one is not None for one in earned)
    push, rows, scored = float(push_K.sum()), sum(one.rows for one in steps), sum(one.scored for one in steps)
    with np.errstate(all="ignore"):
        return TurnShares(
            share_K=_without_rounding(push_K / push),
            net_K=np.where(np.abs(net_K) <= ROUNDING * push, 0.0, net_K / push),
            reached_K=reached_K / rows,
            earned_K=_without_rounding(_added(earned) / scored) if told else None,  # type: ignore[arg-type]
            idle=float(np.float64(sum(one.idle or 0.0 for one in steps)) / push) if told else None,
            completions=rows,
        )


def mean_by_turn(vectors: Sequence[NDArray[np.float64]], width: int, level: float):
    """(mean over runs, half width of its t interval), each (width,); a run has 0 at turns that none of its completions has.
    Runs without a number are left out; half width 0 for one run, NaN everywhere for none."""
    rows = [np.pad(one, (0, width - len(one))) for one in vectors if np.isfinite(one).all()]
    if not rows:
        return np.full(width, np.nan), np.full(width, np.nan)
    values, count = np.stack(rows), len(rows)
    if count == 1:
        return values[0], np.zeros(width)
    half = stats.distributions.t.ppf((1 + level) / 2, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return values.mean(axis=0), half


def _without_rounding(values_K: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values_K) <= ROUNDING * np.abs(values_K).sum(), 0.0, values_K)


def _added(vectors: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    width = max(map(len, vectors))
    return np.sum([np.pad(one, (0, width - len(one))) for one in vectors], axis=0)


def _some(run: Run, until: float) -> list[tuple[int, Path]]:
    try:
        files = [(step, path) for step, path in find_records(run.folder).items() if step <= until]
    except ValueError:
        return []
    if len(files) <= MOST_STEPS:
        return files
    return [files[round(i)] for i in np.linspace(0, len(files) - 1, MOST_STEPS)]


def _shown(analysis: Analysis) -> tuple[str, ...]:
    if analysis.tuned is None:
        return analysis.arms
    return tuple(arm for arm in analysis.arms if arm in analysis.tuned.chosen.values())
