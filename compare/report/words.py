"""The report in sentences: what may be concluded, what not, and what was compared."""

from __future__ import annotations

import numpy as np

from compare import statistics as stats
from compare.read import Run, Study
from compare.report.analysis import MEASURES, MIN_PAIRS, Analysis, Comparison
from compare.report.factors import is_sampling
from compare.report.select import evaluated

NAMED = 4  # cells or settings that a sentence lists by name
MOST_DECIMALS = 6


def number(value: float, scale: float | None = None, sign: bool = False, least: int = 1) -> str:
    """Three significant digits, or, given a `scale` (the width of an interval), two digits of it, but never fewer than
    `least` of the number's own: what is not zero does not read as zero. Thousands as k, millions as M; "n/a" if there is
    no number."""
    if not np.isfinite(value):
        return "n/a"
    value += 0.0  # no minus before a zero
    size = max(abs(value), scale or 0.0)
    units = ((1e6, "M"), (1e3, "k"))
    factor, unit = next(((f, u) for f, u in units if size >= 10 * f or size >= f == 1e6), (1.0, ""))
    if value and abs(value) < factor / 10:
        factor, unit = 1.0, ""  # far below its scale: in a unit of its own
    plus = "+" if sign and value else ""
    step = (scale or abs(value) / 10) / factor
    decimals = _decimals(step, 1) if step > 0 else 0
    if scale and value and least:
        decimals = max(decimals, _decimals(abs(value) / factor, least - 1))
    if decimals > MOST_DECIMALS:
        return f"{value:{plus}.{max(1, least - 1)}e}".replace("-", "\u2212")
    text = f"{value / factor:{plus}.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text and not scale else text).replace("-", "\u2212") + unit


def _decimals(size: float, more: int) -> int:
    """Decimals down to the first digit of `size`, and `more`."""
    return max(0, int(more - np.floor(np.log10(size))))


def with_interval(estimate: stats.Estimate, sign: bool = False, ends: int = 1) -> str:
    """`value [low, high]` with the digits that the width of the interval supports, and the value with two of its own at
    least, the ends with `ends` of theirs, however wide it is; it does not break."""
    width = estimate.high - estimate.low
    scale = width if np.isfinite(width) and width > 0 else None
    if not np.isfinite(estimate.low):
        return f"{number(estimate.value, sign=sign)} [no\u00a0interval]"
    low, high = number(estimate.low, scale, sign, ends), number(estimate.high, scale, sign, ends)
    return f"{number(estimate.value, scale, sign, least=2)}\u00a0[{low},\u00a0{high}]"


def count(number: int, thing: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def conclusions(study: Study, analysis: Analysis) -> list[str]:
    """What the primary measure says, arm by arm, and which arms it says nothing about."""
    rows = analysis.comparisons[analysis.options.primary]
    name = MEASURES[analysis.options.primary]
    lines = []
    declared = [row for row in rows if row.declared]
    for row in declared:
        side = "higher" if row.difference.value > 0 else "lower"
        lines.append(
            f"{row.arm} differs from {analysis.reference}: {name} {with_interval(row.difference, sign=True)} "
            f"({side}; Holm-adjusted p = {row.p_holm:.2g}, "
            f"{len(row.pairs)} paired runs).{_also(row.arm, analysis)}"
        )
    for row in rows:
        if not row.declared:
            lines.append(_undecided(row, analysis, len(rows)) + _also(row.arm, analysis))
    if not rows:
        lines.append("Nothing to compare: there is one arm, or no seed that two arms share.")
    elif not declared:
        lines.insert(
            0, f"No arm is declared different from {analysis.reference}. That is not evidence that they are equal."
        )
    return lines + _not_compared(study, analysis)


def _also(arm: str, analysis: Analysis) -> str:
    """What else than credit two arms differ in."""
    told = analysis.selection.settings
    mine, theirs = told.get(arm, {}), told.get(analysis.reference, {})
    keys = [key for key in analysis.selection.factors if mine and theirs and mine[key] != theirs[key]]
    others = [key for key in keys if not key.startswith("credit")]
    if not others:
        return ""
    named = ", ".join(f"`{key}` ({_cut(mine[key])} against {_cut(theirs[key])})" for key in others[:NAMED])
    named += f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    if len(others) < len(keys):
        return f" Besides credit they differ in {named}, so the difference is not credit's alone."
    return f" Their credit is the same; they differ in {named}."


def _not_compared(study: Study, analysis: Analysis) -> list[str]:
    """Arms of which no run is left, with the reason."""
    used = {run.folder for run in analysis.used}
    left = {run.arm for run in study.runs if run.folder in used}
    lines = {}
    for one in analysis.apart:
        if one.run.arm not in left and one.kind in ("measure", "short", "task"):
            text = f"{_cut(one.run.arm)} is not compared with {analysis.reference}: {one.reason}."
            lines.setdefault((one.run.arm, one.reason), text)
    return list(lines.values())


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
    if not any(run.finished for run in analysis.used):
        lines.append("No run is finished; every number below is a snapshot of runs that still go on.")
    lines += _left_out(study, analysis) + _readings(analysis)
    if study.missing:
        cells = ", ".join(f"{cell.cell} ({cell.state})" for cell in study.missing[:NAMED])
        lines.append(
            f"{count(len(study.missing), 'cell')} without a finished run: {cells}{_more(len(study.missing))}. Pairs that "
            "miss a partner are not in any difference."
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
        "(docs/compare/report.md).",
    ]  # fmt: skip
    return lines


def _left_out(study: Study, analysis: Analysis) -> list[str]:
    """Runs that are in no number, one line for each kind of reason, and folders that are no runs."""
    words = {
        "unfinished": "Left out because unfinished: {}. Runs that stop for a reason tied to their score bias the rest.",
        "metric": "Left out, since they logged nothing to compare: {}.",
        "broken": "Left out because their counts are broken: {}.",
        "measure": "Set apart, since they measure something else than {reference}: {}. allow=... compares them all the "
        "same; reference=... compares them with each other.",
        "task": "Set apart, since {reference} was not run on their task: {}.",
        "short": "Set apart, since they ended far earlier than the others: {}.",
        "twice": "Counted once, although there twice: {}.",
    }
    lines = []
    for kind, text in words.items():
        if runs := [one.run for one in analysis.apart if one.kind == kind]:
            names = ", ".join(f"{run.task}/{_cut(run.arm)}/seed{run.seed}" for run in runs[:NAMED]) + _more(len(runs))
            lines.append(text.format(names, reference=analysis.reference))
    if study.skipped:
        named = ", ".join(f"{one.folder} ({one.reason})" for one in study.skipped[:NAMED])
        lines.append(f"Skipped: {named}{_more(len(study.skipped))}.")
    for run in analysis.used:
        lines += [f"{run.folder}: {note}." for note in run.notes]
    return lines


def _readings(analysis: Analysis) -> list[str]:
    """Where the runs that are compared were not told, measured or read alike."""
    lines, told, metric = [], analysis.selection.settings, analysis.options.metric
    bare = [run for run in analysis.used if not run.config]
    if bare:
        lines.append(
            f"{count(len(bare), 'run')} without a config.yaml ({', '.join(str(run.folder) for run in bare[:NAMED])}"
            f"{_more(len(bare))}): whether they were set up and measured alike cannot be checked."
        )
    for arm, names in analysis.selection.merged.items():
        lines.append(
            f"{arm} has several names here, which differ in nothing but what is logged or saved: "
            f"{', '.join(map(_cut, names[:NAMED]))}{_more(len(names))}."
        )
    if sampling := [key for key in analysis.selection.factors if is_sampling(key)]:
        lines.append(
            f"Completions were sampled in other ways ({', '.join(sampling)}), so part of a difference in `{metric}` can be "
            "the sampling and not the policy."
        )
    if any(
        row.get("completions per step") != told[analysis.reference].get("completions per step")
        for row in told.values()
        if row
    ):
        lines.append("Batches differ in size: at equal tokens the arms have taken other numbers of steps.")
    for task in analysis.tasks:
        runs = [run for run in analysis.used if run.task == task]
        ends = [float(run.columns[analysis.x][np.isfinite(run.columns[analysis.x])][-1]) for run in runs]
        last = [float(run.columns["step"][-1]) for run in runs]
        least, most, apart = analysis.budget[task], max(ends), min(last) < 0.9 * max(last)
        if least < (0.8 if apart else 0.5) * most:
            run = runs[ends.index(min(ends))]
            lines.append(
                f"On {task} all runs are read at {number(least)}, where {run.arm}/seed{run.seed} ended; the longest went on to "
                f"{number(most)}, and what it learnt after that is in no number read at equal tokens."
                + (" A learning rate that decays over the run had not come down yet there." if apart else "")
            )
    gaps = [(run, *gaps_of(run, metric, analysis.x)) for run in analysis.used if not metric.startswith("eval")]
    for run, lost, steps, at_end in gaps:
        if at_end or lost > 0.05 * steps:
            lines.append(
                f"{run.folder} logged no finite `{metric}` in {lost} of {steps} steps{', its last among them' if at_end else ''}; "
                "they are passed over."
            )
    everywhere = {name: {str(v) for run in analysis.used for n, v in versions_of(run).items() if n == name}
                  for name in sorted({n for run in analysis.used for n in versions_of(run)})}  # fmt: skip
    if mixed := [f"{name} {', '.join(sorted(found))}" for name, found in everywhere.items() if len(found) > 1]:
        lines.append(f"The runs were made with different versions: {'; '.join(mixed)}.")
    if "held_out" not in analysis.values and any(evaluated(run) is not None for run in analysis.used):
        without = [run for run in analysis.used if evaluated(run) is None]
        lines.append(
            f"No held-out reward is compared, since {count(len(without), 'run')} without one, e.g. {without[0].folder}."
        )
    return lines


def gaps_of(run: Run, metric: str, x: str) -> tuple[int, int, bool]:
    """Training steps without a finite metric, training steps, and whether the last is one of the former."""
    trained = np.isfinite(run.columns[x])
    lost = trained & ~np.isfinite(run.columns[metric])
    return int(lost.sum()), int(trained.sum()), bool(lost[np.flatnonzero(trained)[-1]])


def versions_of(run: Run) -> dict[str, str]:
    found = run.summary.get("versions")
    return {str(name): str(number) for name, number in found.items()} if isinstance(found, dict) else {}


def _more(total: int) -> str:
    return f" and {total - NAMED} more" if total > NAMED else ""


def _cut(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def method(analysis: Analysis) -> list[str]:
    """How the numbers came about."""
    unit = {"num_tokens": "tokens (prompt and completion, as TRL counts them)", "step": "steps (no token count logged)"}
    unit = unit.get(analysis.x, "generated tokens")
    budgets = ", ".join(f"{task}: {number(b)}" for task, b in analysis.budget.items())
    thresholds = ", ".join(f"{task}: {number(t)}" for task, t in analysis.threshold.items())
    return [
        f"Every run is read at the same budget in {unit}, the smallest that any run reached ({budgets}); "
        f"scores are means of the last {analysis.window} steps up to there, as logged.",
        f"The primary measure is the {MEASURES[analysis.options.primary]}; only it declares anything, by paired t-test "
        "(and sign-flip test from 6 pairs on), Holm-adjusted over the arms.",
        "Levels are interquartile means with stratified bootstrap intervals at Student's tails; differences are means "
        "over pairs of the same seed with t intervals.",
        f"Threshold: {thresholds}" + (" (given)" if analysis.options.threshold is not None
        else f", nine tenths of the way of {analysis.reference}'s mean curve")
        + ". Runs that never get there count with the whole budget (restricted mean).",
    ]  # fmt: skip
