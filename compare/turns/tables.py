"""Turns in tables: an arm a line, a stretch of turns a line, and every recorded turn with all digits.

Shapes: K turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compare import statistics as stats
from compare.read import Run
from compare.report.analysis import Analysis
from compare.report.numbers import number, with_interval
from compare.report.sheet import Cells, TitledTable, full_number
from compare.turns.steps import MOST_TURNS
from compare.turns.study import TurnShares, TurnStudy
from credit.turns.measures import STRETCHES

LONGEST = 8  # arms whose turns are listed; all are in turns.csv


def turn_tables(study: TurnStudy, analysis: Analysis) -> list[TitledTable]:
    """Those of the page."""
    tables = [("Turns", *_arms_table(study, analysis))]
    if len(study.arms) <= LONGEST:
        tables.append(("Credit and reward by turn, last third of the run", *_stretches_table(study, analysis)))
    return [table for table in tables if table[2]]


def turns_csv(study: TurnStudy) -> tuple[Cells, list[Cells]]:
    """Every turn of every recorded step that was read."""
    header = ["task", "arm", "seed", "step", "turn", "completions", "recorded", "credit_share", "credit_net", "earned",
              "scored", "left_out"]  # fmt: skip
    rows: list[Cells] = []
    for (arm, task, seed), steps in study.steps.items():
        for one in steps:
            push = float(one.push_K.sum())
            for k in range(len(one.reached_K)):
                last = f"{k + 1}+" if k + 1 == MOST_TURNS else str(k + 1)
                earned = np.nan if one.earned_K is None or not one.scored else one.earned_K[k] / one.scored
                shares = [one.push_K[k] / push, one.net_K[k] / push] if push else [np.nan, np.nan]
                rows.append([task, arm, str(seed), str(one.step), last, f"{one.reached_K[k]:.0f}", str(one.rows),
                             *map(full_number, (*shares, earned)), str(one.scored), str(one.left_out)])  # fmt: skip
    return header, rows


def _arms_table(study: TurnStudy, analysis: Analysis) -> tuple[Cells, list[Cells]]:
    header = ["arm", "task", "turns", "tool calls that failed", "environments that failed",
              "credit on turns that earned nothing: first third", "last third", "completions read"]  # fmt: skip
    rows = []
    last = max(study.stages)
    for task in analysis.tasks:
        for arm in study.arms:
            runs = [run for run in analysis.used if (run.arm, run.task) == (arm, task)]
            first, end = study.bounds(task, last)
            ends = [study.parts(arm, task, [stage]) for stage in (0, last)]
            turns = _logged(runs, "credit/turns", first, end) or [float(one.reached_K.sum()) for one in ends[1]]
            failed = [_logged(runs, name, 1, end) for name in ("tools/failure_frequency", "environments/failed")]
            idle = [[one.idle for one in parts if one.idle is not None] for parts in ends]
            cells = [_mean(values, analysis) for values in (turns, *failed, *idle)]
            read = sum(one.completions for one in study.parts(arm, task, study.stages))
            if any(cells) or read:
                rows.append([arm, task, *cells, str(read)])
    return _without_empty(header, rows, analysis)


def _stretches_table(study: TurnStudy, analysis: Analysis) -> tuple[Cells, list[Cells]]:
    header = ["arm", "task", "turns", "completions that have them", "share of credit", "with its sign", "reward earned"]
    rows: list[Cells] = []
    for task in analysis.tasks:
        for arm in study.arms:
            parts = study.parts(arm, task, [max(study.stages)])
            for ends in STRETCHES if parts else ():
                if ends[0] <= study.turns(task):
                    cells = (_mean(values, analysis) for values in _within(parts, *ends))
                    rows.append([arm, task, _name(*ends, study.turns(task)), *cells])
    return _without_empty(header, rows, analysis)


def _within(parts: Sequence[TurnShares], first: int, last: int | None) -> list[list[float]]:
    """Of each run: completions that have the first of these turns, credit, credit with its sign, reward."""
    reached = [float(one.reached_K[first - 1 : first].sum()) for one in parts]
    vectors = [[getattr(one, name) for one in parts] for name in ("share_K", "net_K", "earned_K")]
    return [reached, *([float(v[first - 1 : last].sum()) for v in each if v is not None] for each in vectors)]


def _name(first: int, last: int | None, longest: int) -> str:
    until = min(last or longest, longest)
    return f"{first}" if until == first else f"{first} to {until}{'+' if until == MOST_TURNS else ''}"


def _mean(values: Sequence[float], analysis: Analysis) -> str:
    """Mean over runs with its interval; empty without a number."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return ""
    if len(known) == 1 or np.ptp(known) == 0:
        return number(known[0], scale=max(abs(known[0]) / 10, 1e-3)) if known[0] else "0"
    return with_interval(stats.mean_interval([known], analysis.options.level))


def _logged(runs: Sequence[Run], name: str, first: int, last: int) -> list[float]:
    """Mean of a column over the steps from `first` to `last`, of each run that has it there."""
    found = []
    for run in runs:
        if name in run.columns:
            inside = (run.columns["step"] >= first) & (run.columns["step"] <= last) & np.isfinite(run.columns[name])
            found += [float(run.columns[name][inside].mean())] if inside.any() else []
    return found


def _without_empty(header: Cells, rows: Sequence[Cells], analysis: Analysis) -> tuple[Cells, list[Cells]]:
    """Without columns in which nothing stands, and without the task where there is one."""
    kept = [i for i, name in enumerate(header) if any(row[i] for row in rows)]
    kept = [i for i in kept if header[i] != "task" or len(analysis.tasks) > 1]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]
