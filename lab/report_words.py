"""The report in sentences: what may be concluded, what not, and what was compared."""

from __future__ import annotations

import numpy as np

from lab import stats
from lab.report_analysis import MEASURES, MIN_PAIRS, Analysis, Comparison
from lab.report_read import Study

NAMED = 4  # cells that a sentence lists by name


def number(value: float, scale: float | None = None, sign: bool = False) -> str:
    """Three significant digits, or, given a `scale` (the width of an interval), two digits of it.
    Thousands as k, millions as M; "n/a" if there is no number."""
    if not np.isfinite(value):
        return "n/a"
    size = max(abs(value), scale or 0.0)
    factor, unit = next(((f, u) for f, u in ((1e6, "M"), (1e3, "k")) if size >= 10 * f or size >= f == 1e6), (1.0, ""))
    value, step = value / factor, (scale or abs(value) / 10) / factor
    decimals = int(np.clip(1 - np.floor(np.log10(step)), 0, 6)) if step > 0 else 0
    value = value if round(value, decimals) else 0.0  # no minus before a zero
    text = f"{value:{'+' if sign and value else ''}.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text and not scale else text).replace("-", "\u2212") + unit


def with_interval(estimate: stats.Estimate, sign: bool = False) -> str:
    """`value [low, high]`, all with the digits that the width of the interval supports; it does not break."""
    width = estimate.high - estimate.low
    scale = width if np.isfinite(width) and width > 0 else None
    if not np.isfinite(estimate.low):
        return f"{number(estimate.value, sign=sign)} [no\u00a0interval]"
    low, high = number(estimate.low, scale, sign), number(estimate.high, scale, sign)
    return f"{number(estimate.value, scale, sign)}\u00a0[{low},\u00a0{high}]"


def count(number: int, thing: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def conclusions(analysis: Analysis) -> list[str]:
    """What the primary measure says, arm by arm."""
    rows = analysis.comparisons[analysis.options.primary]
    name = MEASURES[analysis.options.primary]
    lines = []
    if declared := [row for row in rows if row.declared]:
        for row in declared:
            side = "higher" if row.difference.value > 0 else "lower"
            lines.append(
                f"{row.arm} differs from {analysis.reference}: {name} {with_interval(row.difference, sign=True)} "
                f"({side}; Holm-adjusted p = {row.p_holm:.2g}, "
                f"{len(row.pairs)} paired runs)."
            )
    for row in rows:
        if not row.declared:
            lines.append(_undecided(row, analysis, len(rows)))
    if not rows:
        lines.append("Nothing to compare: there is one arm, or no seed that two arms share.")
    elif not declared:
        lines.insert(
            0, f"No arm is declared different from {analysis.reference}. That is not evidence that they are equal."
        )
    return lines


def _undecided(row: Comparison, analysis: Analysis, comparisons: int) -> str:
    pairs, text = len(row.pairs), f"{row.arm} and {analysis.reference} cannot be told apart"
    seen = f"seen {with_interval(row.difference, sign=True)}"
    if pairs < 2:
        once = number(row.difference.value, sign=True)
        return f"{text}: one seed shows one outcome and nothing about its spread (seen {once})."
    if row.difference.spread == 0 and row.difference.value == 0:
        return f"{text}: all {pairs} paired runs gave the same number."
    if row.difference.spread == 0 or not np.isfinite(row.p):
        return f"{text}: {seen}, but all pairs differ by the same amount, which leaves no spread to judge by."
    level = analysis.options.level
    needed = stats.seeds_needed(row.difference.value, row.difference.spread, level=level, comparisons=comparisons)
    enough = f"more than {needed - 1}" if needed > 1000 else f"about {max(needed, MIN_PAIRS)}"
    few = f" Fewer than {MIN_PAIRS} pairs declare nothing here, whatever they show." if pairs < MIN_PAIRS else ""
    smallest = number(row.smallest, row.smallest)  # two digits
    return (
        f"{text}: {seen}. With {pairs} paired runs nothing below a difference of {smallest} can be told apart; a true "
        f"one as large as seen takes {enough} paired runs to be found four times in five.{few}"
    )


def cautions(study: Study, analysis: Analysis) -> list[str]:
    """What a reader must know before quoting a number."""
    lines, seeds = [], len(analysis.seeds)
    if not any(run.finished for run in study.runs):
        lines.append("No run is finished; every number below is a snapshot of runs that still go on.")
    elif analysis.left_out:
        names = ", ".join(f"{run.task}/{run.arm}/seed{run.seed}" for run in analysis.left_out)
        lines.append(
            f"Left out because unfinished: {names}. Runs that stop for a reason tied to their score bias the rest."
        )
    if study.missing:
        cells = ", ".join(f"{cell.cell} ({cell.state})" for cell in study.missing[:NAMED])
        rest = len(study.missing) - NAMED
        more = f" and {rest} more" if rest > 0 else ""
        lines.append(
            f"{count(len(study.missing), 'cell')} without a finished run: {cells}{more}. Pairs that miss a partner are "
            "not in any difference."
        )
    if seeds < MIN_PAIRS:
        lines.append(
            f"{count(seeds, 'seed')}: a smoke test. Intervals hold for bell-shaped scores; where runs either learn or do "
            "not, those of single arms cover 77\u00a0% instead of 95\u00a0% at 3 seeds, and skewed differences cost the "
            "paired ones 3 to 11 points."
        )
    elif seeds < 10:
        lines.append(
            f"{seeds} seeds: where runs either learn or do not, intervals of single arms cover 87\u00a0% instead of "
            "95\u00a0% at 5 seeds, in simulations; those of paired differences hold, unless the differences are skewed "
            "(82 to 92\u00a0%)."
        )
    if flat := [task for task in analysis.tasks if not np.isfinite(analysis.threshold[task])]:
        lines.append(
            f"{analysis.reference} did not rise on {', '.join(flat)}, so there is no threshold to reach; threshold=... "
            "names one."
        )
    if len(analysis.tasks) == 1:
        lines.append(f"One task ({analysis.tasks[0]}): nothing here says what happens on another.")
    lines += [
        f"`{analysis.options.metric}` is measured as logged; if it comes from training batches, it is the reward of "
        "the sampled policy on training prompts, not of a held-out set." if not analysis.options.metric.startswith("eval")
        else f"`{analysis.options.metric}` is logged rarely; curves are straight lines between evaluations.",
        "Arms with other weights take steps of other sizes at the same learning rate. Part of a difference can be step "
        "size: tune the learning rate for each arm, or set `credit.unit_mass=true`.",
        "A difference between trained models is not yet evidence about credit: ask the exact lab first "
        "(docs/report.md).",
    ]  # fmt: skip
    return lines


def method(analysis: Analysis) -> list[str]:
    """How the numbers came about."""
    unit = {"num_tokens": "tokens (prompt and completion, as TRL counts them)", "step": "steps (no token count logged)"}
    unit = unit.get(analysis.x, "generated tokens")
    budgets = ", ".join(f"{task}: {number(b)}" for task, b in analysis.budget.items())
    thresholds = ", ".join(f"{task}: {number(t)}" for task, t in analysis.threshold.items())
    return [
        f"Every run is read at the same budget in {unit}, the smallest that any run reached ({budgets}); "
        f"scores are means of the last {analysis.window} logged steps up to there.",
        f"The primary measure is the {MEASURES[analysis.options.primary]}; only it declares anything, by paired t-test "
        "(and sign-flip test from 6 pairs on), Holm-adjusted over the arms.",
        "Levels are interquartile means with stratified bootstrap intervals at Student's tails; differences are means "
        "over pairs of the same seed with t intervals.",
        f"Threshold: {thresholds}" + (" (given)" if analysis.options.threshold is not None
        else f", nine tenths of the way of {analysis.reference}'s mean curve")
        + ". Runs that never get there count with the whole budget (restricted mean).",
    ]  # fmt: skip
