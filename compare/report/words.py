"""The report in sentences: what may be concluded, what not, and what was compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compare import statistics as stats
from compare.read import Run, Study
from compare.report.analysis import MEASURES, MIN_PAIRS, Analysis, Comparison
from compare.report.design import RATE
from compare.report.factors import is_sampling
from compare.report.numbers import count, number, with_interval
from compare.report.select import evaluated
from compare.report.tuned_words import edges, how_tuned, spread_of_choice

NAMED = 4  # cells or settings that a sentence lists by name
SENTENCES = 6  # arms that get a sentence each


def conclusions(study: Study, analysis: Analysis) -> list[str]:
    """What the primary measure says, arm by arm (of factors: level by level, each as tuned), and which arms it says nothing
    about."""
    rows, reference = analysis.declaring, analysis.against
    name, lines = MEASURES[analysis.options.primary], []
    declared = [row for row in rows if row.declared]
    for row in declared if len(declared) <= SENTENCES else ():
        side = "higher" if row.difference.value > 0 else "lower"
        lines.append(
            f"{row.arm} differs from {reference}: {name} {with_interval(row.difference, sign=True)} "
            f"({side}; Holm-adjusted p = {row.p_holm:.2g}, "
            f"{len(row.pairs)} paired runs).{_also(row.arm, analysis)}"
        )
    if len(declared) > SENTENCES:
        lines += _many_declared(declared, reference, name)
    undecided = [row for row in rows if not row.declared]
    if len(undecided) <= SENTENCES:
        lines += [_undecided(row, analysis, len(rows)) + _also(row.arm, analysis) for row in undecided]
    else:
        lines.append(_many_undecided(undecided, reference))
    if rows and len(undecided) == len(rows):
        what = analysis.tuned.design.compared.name if analysis.tuned else "arm"
        lines.insert(0, f"No {what} is declared different from {reference}. That is not evidence that they are equal.")
    if not rows and not analysis.tuned:
        lines.append("Nothing to compare: there is one arm, or no seed that two arms share.")
    lines += _too_few(rows, analysis.options.level) if undecided else []
    if analysis.tuned:
        lines = [how_tuned(analysis.tuned), *lines, *edges(analysis.tuned)]
    return lines + _not_compared(study, analysis)


def _many_declared(rows: Sequence[Comparison], reference: str, name: str) -> list[str]:
    """A sentence for each side, the largest difference first; the table has them all."""
    lines = []
    for side, sign in (("higher", 1), ("lower", -1)):
        there = sorted(
            (row for row in rows if sign * row.difference.value > 0), key=lambda row: -abs(row.difference.value)
        )
        if there:
            named = "; ".join(f"{row.arm} {with_interval(row.difference, sign=True)}" for row in there[:NAMED])
            more = f"; and {len(there) - NAMED} more, see the first table" if len(there) > NAMED else ""
            lines.append(f"{len(there)} differ from {reference}, {side} in {name}: {named}{more}.")
    return lines


def _many_undecided(rows: Sequence[Comparison], reference: str) -> str:
    """One sentence where one for each would bury the others; the table has them all."""
    seen = [row.difference.value for row in rows]
    smallest = [row.smallest for row in rows if np.isfinite(row.smallest)]
    blind = f" Nothing below {number(max(smallest), max(smallest))} can be told apart everywhere." if smallest else ""
    named = ", ".join(row.arm for row in rows[: 2 * NAMED])
    more = f" and {len(rows) - 2 * NAMED} more" if len(rows) > 2 * NAMED else ""
    return (
        f"{len(rows)} cannot be told apart from {reference}: {named}{more}. Seen: "
        f"{number(min(seen), sign=True)} to {number(max(seen), sign=True)}; the first table has each.{blind}"
    )


def _too_few(rows: Sequence[Comparison], level: float) -> list[str]:
    """Whether the sign-flip test can reach the level at all, for so many comparisons."""
    pairs, total = min((len(row.pairs) for row in rows), default=0), len(rows)
    if pairs < 6 or 2.0 ** (1 - pairs) * total < 1 - level:
        return []
    enough = next(n for n in range(pairs, 60) if 2.0 ** (1 - n) * total < 1 - level)
    return [
        f"With {pairs} pairs and {total} comparisons nothing can be declared, however large: the sign-flip test ends at p = "
        f"{2.0 ** (1 - pairs):.2g}, and Holm multiplies it by up to {total}. {enough} seeds can."
    ]


def _also(arm: str, analysis: Analysis) -> str:
    """What else than credit two arms differ in."""
    if analysis.tuned:
        return ""  # that is what was tuned
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
    pairs, text = len(row.pairs), f"{row.arm} and {analysis.against} cannot be told apart"
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
    lines, seeds = [], len(analysis.tuned.test if analysis.tuned and analysis.tuned.test else analysis.seeds)
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
        *_step_sizes(analysis),
        "A difference between trained models is not yet evidence about credit: ask the exact lab first "
        "(docs/compare/report.md).",
    ]  # fmt: skip
    return lines


def _step_sizes(analysis: Analysis) -> list[str]:
    if analysis.tuned and any(factor.key == RATE for factor in analysis.tuned.design.tuned):
        return [*spread_of_choice(analysis.tuned)]
    return [
        "Arms with other weights take steps of other sizes at the same learning rate. Part of a difference can be step "
        "size: tune the learning rate for each arm (trainer.learning_rate='log(1e-5,1e-3,5)' in a sweep), or set "
        "`credit.unit_mass=true`."
    ]


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
    assumed = (
        f"`{analysis.options.metric}` is taken to lie between 0 and 1, since no step of any run logged another value; axes and "
        "intervals end there. bounds=low,high names others, bounds=none none."
    )
    return [
        f"Every run is read at the same budget in {unit}, the smallest that any run reached ({budgets}); "
        f"scores are means of the last {analysis.window} steps up to there, as logged.",
        f"The primary measure is the {MEASURES[analysis.options.primary]}; only it declares anything, by paired t-test "
        "(and sign-flip test from 6 pairs on), Holm-adjusted over "
        + (f"the levels of {analysis.tuned.design.compared.name}." if analysis.tuned else "the arms."),
        "Levels are interquartile means with stratified bootstrap intervals at Student's tails; differences are means "
        "over pairs of the same seed with t intervals.",
        f"Threshold: {thresholds}" + (" (given)" if analysis.options.threshold is not None
        else f", nine tenths of the way of {analysis.reference}'s mean curve")
        + ". Runs that never get there count with the whole budget (restricted mean).",
        *([assumed] if analysis.bounds.assumed else []),
    ]  # fmt: skip
