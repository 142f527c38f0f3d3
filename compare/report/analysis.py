"""From runs to numbers: every arm at the same budget, every pair of seeds against the reference.

The decision rule, fixed before any data is seen: an arm is *declared different* from the reference if the Holm-adjusted
p-value of its paired difference in the primary measure is below 1 - level, where each p-value is the larger of the
paired t-test's and, from six pairs on (below that it cannot get under 0.05), the sign-flip test's. Fewer than five
pairs declare nothing: where runs either learn or do not, t-tests on three pairs err in 7 % of null sweeps, on two in
9 % (tests/compare/test_statistics_coverage.py). All else is shown with intervals and declares nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compare import statistics as stats
from compare.curves import Restricted, area_under_curve, restricted_mean, score_at, smoothed, time_to_threshold
from compare.read import Run, Study, token_column
from compare.report.design import design_of
from compare.report.limits import Bounds, bounds_of, within
from compare.report.select import Apart, Selection, evaluated, select
from compare.report.tuning import Tuned, tune

MEASURES = {
    "final": "final score",
    "auc": "area under the curve",
    "tokens": "tokens to the threshold",
    "final_steps": "final score at equal steps",
    "held_out": "held-out reward after training",
}
MIN_PAIRS = 5
Table = dict[str, dict[str, dict[int, float]]]  # arm -> task -> seed -> value


@dataclass(frozen=True)
class Options:
    """What is measured and how. `window` and `threshold` None: chosen from the data by the rules in `analyse`."""

    metric: str = "reward"
    reference: str | None = None
    primary: str = "final"
    level: float = 0.95
    window: int | None = None
    threshold: float | None = None
    allow: tuple[str, ...] = ()  # settings that may differ although they decide what is measured
    compare: str | None = None  # the factor whose levels are compared; None: the strategy
    tuning_seeds: tuple[int, ...] | None = None  # those that choose; None: by `split_seeds`
    bounds: Bounds | None = None  # between which the metric must lie; None: by `bounds_of`


@dataclass(frozen=True)
class Comparison:
    """One arm against the reference in one measure. `p` and `p_holm` NaN where nothing can be tested."""

    arm: str
    measure: str
    difference: stats.Difference
    improvement: stats.Estimate
    p: float
    p_holm: float
    declared: bool
    pairs: tuple[tuple[str, int, float], ...]  # task, seed, difference
    smallest: float  # the difference that would just be declared, with this spread and number of seeds


@dataclass(frozen=True)
class Analysis:
    options: Options
    reference: str
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    x: str  # column of the token axis
    budget: dict[str, float]  # per task: tokens that every run reached
    steps: dict[str, float]  # per task: steps that every run reached
    window: int
    threshold: dict[str, float]
    values: dict[str, Table]  # measure -> arm -> task -> seed; its keys are the measures at hand
    levels: dict[str, dict[str, stats.Estimate]]  # measure -> arm -> IQM (for "tokens": restricted mean)
    arrivals: dict[str, dict[str, Restricted]]  # arm -> task
    comparisons: dict[str, tuple[Comparison, ...]]  # measure -> arms without the reference
    used: tuple[Run, ...]
    apart: tuple[Apart, ...]  # runs that are in no number, and why
    selection: Selection
    bounds: Bounds  # of the metric
    tuned: Tuned | None = None  # where arms are combinations of factors
    tuned_comparisons: tuple[
        Comparison, ...
    ] = ()  # of the primary measure, levels of what is compared against each other

    @property
    def declaring(self) -> tuple[Comparison, ...]:
        """The comparisons that may declare a difference: of tuned levels where there are factors, else of arms."""
        return self.tuned_comparisons if self.tuned else self.comparisons[self.options.primary]

    @property
    def against(self) -> str:
        """What those are compared with."""
        return self.tuned.reference if self.tuned else self.reference


def analyse(study: Study, options: Options) -> Analysis:
    """All numbers of the report, over the runs that `compare.report.select` lets be compared. The reference defaults to
    `uniform`, else the first arm. Where arms are combinations of factors (compare/report/design.py), it is the best of those
    of the reference strategy.

    Budget: per task the smallest number of tokens (steps) any compared run ended with, so every run is read at a point
    it reached. Window: a tenth of the steps, at least 1. Threshold: per task nine tenths of the way from the first to
    the final score of the reference's mean curve; NaN, reached by none, where that curve does not rise.

    Raises:
        ValueError: unknown reference or measure, or no run with the metric.
    """
    if options.primary not in MEASURES:
        raise ValueError(f"primary={options.primary} is not one of {', '.join(MEASURES)}.")
    held_out = options.primary == "held_out"
    selection = select(study.runs, options.metric, options.reference, options.allow, held_out)
    design = design_of(selection.settings, options.compare)
    analysis = _flat(selection, options)
    if design is None:
        return analysis
    level = design.level(analysis.reference)
    lower = options.primary == "tokens"
    tuned = tune(
        design, analysis.values[options.primary], analysis.seeds, level, lower, options.tuning_seeds, options.level
    )
    if options.reference != analysis.reference and tuned.chosen.get(level, analysis.reference) != analysis.reference:
        analysis = _flat(replace(selection, reference=tuned.chosen[level]), options)
        values = analysis.values[options.primary]  # the threshold is another one now
        tuned = tune(design, values, analysis.seeds, level, lower, options.tuning_seeds, options.level)
    low, high = _limits(options.primary, analysis)
    tuned = replace(tuned, levels={name: within(one, low, high) for name, one in tuned.levels.items()})
    table = tuned.table(analysis.values[options.primary])
    compared = compare(table, tuned.reference, options.primary, options.level) if tuned.test else ()
    order = {arm: (design.level(arm) != tuned.reference, design.place(arm)) for arm in analysis.arms}
    flat = {name: tuple(sorted(rows, key=lambda row: order[row.arm])) for name, rows in analysis.comparisons.items()}
    analysis = replace(analysis, arms=tuple(sorted(order, key=lambda arm: order[arm])), comparisons=flat)
    return replace(analysis, tuned=tuned, tuned_comparisons=tuple(_bounded(one, high - low) for one in compared))


def _flat(selection: Selection, options: Options) -> Analysis:
    """The analysis of arms one by one, against the reference of the selection."""
    used, reference = selection.used, selection.reference
    tasks = tuple(sorted({run.task for run in used}))
    arms = (reference, *(arm for arm in dict.fromkeys(run.arm for run in used) if arm != reference))
    x = token_column(used)
    curves = {_key(run): run.curve(x, options.metric) for run in used}
    by_step = {_key(run): run.curve("step", options.metric) for run in used}
    budget = {task: min(c[0][-1] for key, c in curves.items() if key[1] == task) for task in tasks}
    steps = {task: min(c[0][-1] for key, c in by_step.items() if key[1] == task) for task in tasks}
    window = options.window or max(1, round(float(np.median([_span(c[0]) for c in by_step.values()])) / 10))
    rows = {key: window_rows(window, grid) for key, (grid, _) in by_step.items()}
    threshold = {}
    for task in tasks:
        own = [(grid, smoothed(y, rows[key])) for key, (grid, y) in curves.items() if key[:2] == (reference, task)]
        grid, mean, _ = mean_curve(own, budget[task], 1)
        rose = len(grid) > 0 and mean[-1] > mean[0]  # else there is no way to go nine tenths of
        rule = mean[0] + 0.9 * (mean[-1] - mean[0]) if rose else np.nan
        threshold[task] = float(rule if options.threshold is None else options.threshold)

    held = {_key(run): evaluated(run) for run in used}
    measures = [name for name in MEASURES if name != "held_out" or None not in held.values()]
    values: dict[str, Table] = {name: {arm: {task: {} for task in tasks} for arm in arms} for name in measures}
    times: dict[tuple[str, str], list[float]] = {}
    arrived: dict[tuple[str, str], list[bool]] = {}
    for key, (grid, height) in curves.items():
        (arm, task, seed), (step_grid, step_height) = key, by_step[key]
        arrival, reached = time_to_threshold(grid, height, threshold[task], min(rows[key], len(grid)))
        times.setdefault((arm, task), []).append(arrival)
        arrived.setdefault((arm, task), []).append(reached)
        found: dict[str, float | None] = {
            "final": score_at(grid, height, budget[task], rows[key]),
            "auc": area_under_curve(grid, height, max(budget[task], grid[0])),
            "tokens": min(arrival, budget[task]),
            "final_steps": score_at(step_grid, step_height, steps[task], rows[key]),
            "held_out": held[key],
        }
        for name in measures:
            values[name][arm][task][seed] = float(found[name])  # type: ignore[arg-type]
    arrivals = {
        arm: {t: restricted_mean(times[arm, t], arrived[arm, t], budget[t]) for t in tasks if (arm, t) in times}
        for arm in arms
    }
    analysis = Analysis(
        options=options,
        reference=reference,
        arms=arms,
        tasks=tasks,
        seeds=tuple(sorted({run.seed for run in used})),
        x=x,
        budget=budget,
        steps=steps,
        window=window,
        threshold=threshold,
        values=values,
        levels={name: {arm: _level(name, table[arm], options.level) for arm in arms} for name, table in values.items()},
        arrivals=arrivals,
        comparisons={name: compare(table, reference, name, options.level) for name, table in values.items()},
        used=used,
        apart=selection.apart,
        selection=selection,
        bounds=bounds_of(options.metric, used, options.bounds),
    )
    return _possible(analysis)


def _possible(analysis: Analysis) -> Analysis:
    """Every interval cut off where nothing can be."""
    levels, comparisons = {}, {}
    for name in analysis.values:
        low, high = _limits(name, analysis)
        levels[name] = {arm: within(estimate, low, high) for arm, estimate in analysis.levels[name].items()}
        comparisons[name] = tuple(_bounded(one, high - low) for one in analysis.comparisons[name])
    return replace(analysis, levels=levels, comparisons=comparisons)


def _bounded(one: Comparison, width: float) -> Comparison:
    return replace(one, difference=within(one.difference, -width, width))


def _limits(measure: str, analysis: Analysis) -> tuple[float, float]:
    if measure == "tokens":
        return 0.0, float(np.mean(list(analysis.budget.values())))
    if measure == "held_out" and analysis.bounds.assumed:
        seen = [v for tasks in analysis.values[measure].values() for s in tasks.values() for v in s.values()]
        return (0.0, 1.0) if min(seen) >= 0 and max(seen) <= 1 else (-np.inf, np.inf)
    return analysis.bounds.low, analysis.bounds.high


def window_rows(window: int, steps: NDArray[np.float64]) -> int:
    """How many logged rows make a window of steps, for a run that logs every few steps."""
    every = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return max(1, round(window / max(every, 1.0)))


def _span(steps: NDArray[np.float64]) -> float:
    """Steps that the rows of a run stand for: its last, less those before its first row."""
    every = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return float(steps[-1] - steps[0] + every)


def _key(run: Run) -> tuple[str, str, int]:
    return run.arm, run.task, run.seed


def compare(table: Table, reference: str, measure: str = "final", level: float = 0.95) -> tuple[Comparison, ...]:
    """Every other arm against the reference, on the seeds both have, Holm over the arms."""
    drafts = []
    for arm in table:
        if arm == reference:
            continue
        shared = {t: sorted(table[arm][t].keys() & table[reference][t].keys()) for t in table[arm]}
        shared = {task: seeds for task, seeds in shared.items() if seeds}
        if not shared:
            continue
        ours = [np.array([table[arm][t][s] for s in seeds]) for t, seeds in shared.items()]
        theirs = [np.array([table[reference][t][s] for s in seeds]) for t, seeds in shared.items()]
        difference = stats.paired_difference(ours, theirs, level)
        count = sum(map(len, ours))
        p = max(difference.p, stats.sign_flip_p(ours, theirs)) if count >= 6 else difference.p
        better = (theirs, ours) if measure == "tokens" else (ours, theirs)  # fewer tokens is better
        pairs = tuple(
            (t, s, float(table[arm][t][s] - table[reference][t][s])) for t, seeds in shared.items() for s in seeds
        )
        drafts.append((arm, difference, stats.probability_of_improvement(*better, level), float(p), pairs))
    adjusted = stats.holm([draft[3] for draft in drafts])
    result = []
    for (arm, difference, improvement, p, pairs), p_holm in zip(drafts, adjusted, strict=True):
        seeds = min(sum(pair[0] == task for pair in pairs) for task in {pair[0] for pair in pairs})
        strata = len({pair[0] for pair in pairs})
        smallest = stats.smallest_significant(difference.spread / np.sqrt(strata), seeds, level, max(1, len(drafts)))
        declared = bool(p_holm < 1 - level and len(pairs) >= MIN_PAIRS)
        result.append(Comparison(arm, measure, difference, improvement, p, p_holm, declared, pairs, smallest))
    return tuple(result)


def mean_curve(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], until: float, window: int, points: int = 200
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean over seeds of the smoothed curves on a common grid, and the half width of its pointwise 95 % t interval.

    The grid runs from the last of the first points to `until`. Half width 0 for a single seed.
    """
    if not curves:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    start = max(x[0] for x, _ in curves)
    grid = np.linspace(min(start, until), until, points)
    heights = np.stack([np.interp(grid, x, smoothed(y, window)) for x, y in curves])
    count = len(curves)
    half = np.zeros(points)
    if count > 1:
        half = stats.distributions.t.ppf(0.975, count - 1) * heights.std(axis=0, ddof=1) / np.sqrt(count)
    return grid, heights.mean(axis=0), half


def _level(measure: str, by_task: dict[str, dict[int, float]], level: float) -> stats.Estimate:
    scores = [list(seeds.values()) for seeds in by_task.values() if seeds]
    return stats.mean_interval(scores, level) if measure == "tokens" else stats.iqm_interval(scores, level)
