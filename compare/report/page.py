"""Writes the report: one self-contained HTML page, the same in Markdown, CSV tables, PNG pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compare.read import Study
from compare.report import words as words
from compare.report.analysis import MEASURES, Analysis
from compare.report.drawing import labels_of
from compare.report.plots import draw, save, suffixes
from compare.report.sheet import (
    Cells,
    TitledTable,
    full_number,
    html_bullets,
    html_pictures,
    html_sheet,
    html_table,
    inert,
    markdown_cell,
    markdown_list,
    markdown_table,
    write_csv,
)
from compare.report.tuned_words import effects_rows, effects_table, short_reference, tuned_rows, tuned_table
from compare.turns.pictures import draw_turns
from compare.turns.study import read_turns
from compare.turns.tables import turn_tables, turns_csv
from compare.turns.words import turn_cautions, turn_method
from compare.untrusted import write_file

_ALT = {
    "learning": "Learning curves over tokens",
    "learning_steps": "Learning curves over steps",
    "length": "Completion length over steps",
    "critical_batch": "Completions at which signal equals noise, over steps",
    "turns": "Turns of a conversation over steps",
    "idle_credit": "Share of credit on turns that earned nothing, over steps",
    "tool_failures": "Share of tool calls that failed, over steps",
    "environment_failures": "Share of conversations whose environment went wrong, over steps",
    "credit_by_turn": "Share of credit on each turn, by stage of the run",
    "earned_by_turn": "Reward earned in each turn, by stage of the run",
    "final": "Final score of each arm with its interval",
    "differences": "Paired differences to the reference with intervals",
    "heat": "Mean score of each combination of factors, the chosen ones framed",
    "effects": "Main effects of each factor with intervals",
}


class PageWords(NamedTuple):
    """The page in sentences."""

    conclusions: list[str]
    cautions: list[str]
    method: list[str]


def write_files(study: Study, analysis: Analysis, out: Path) -> None:
    """report.html, report.md, runs.csv, comparisons.csv, levels.csv and PNG pictures."""
    turns, labels = read_turns(analysis), labels_of(analysis)
    figures = draw(analysis)
    if turns:
        figures |= draw_turns(turns, labels, suffixes(analysis.tasks), analysis.options.level)
    save(figures, out)
    names = list(figures)
    tables = [("In short", *summary_table(analysis, {arm: letter for letter, arm in labels.key}))]
    if labels.key and analysis.tuned:
        tables.append(("Letters in the pictures", ("letter", "arm"), [list(pair) for pair in labels.key]))
    lead = len(tables)
    if analysis.tuned and analysis.tuned.effects:
        tables.append(("Main effects", *effects_table(analysis.tuned)))
    tables += [("Levels", *levels_table(analysis)), ("Paired differences", *comparisons_table(analysis))]
    tables += turn_tables(turns, analysis) if turns else []
    if analysis.selection.factors:
        tables.append(("What differs between the arms", *factors_table(analysis)))
    if analysis.apart or study.skipped:
        tables.append(("Not compared", *apart_table(study, analysis)))
    tables.append((f"Reaching the threshold within the budget ({_unit(analysis)})", *arrivals_table(analysis)))
    facts = provenance(study, analysis)
    cautions, method = words.cautions(study, analysis), words.method(analysis)
    if turns:
        cautions, method = cautions + turn_cautions(turns), method + turn_method(turns)
    said = PageWords(words.conclusions(study, analysis), cautions, method)
    write_file(out / "report.md", _markdown(study, analysis, tables, lead, said, facts, names))
    write_file(out / "report.html", _html(study, analysis, tables, lead, said, facts, names, out))
    write_csv(out / "runs.csv", *runs_table(study, analysis))
    write_csv(out / "comparisons.csv", *comparisons_table(analysis, plain=True))
    write_csv(out / "levels.csv", *levels_table(analysis, plain=True))
    if turns:
        write_csv(out / "turns.csv", *turns_csv(turns))
    if analysis.tuned:
        write_csv(out / "tuned.csv", *tuned_rows(analysis.tuned, analysis.tuned_comparisons))
        write_csv(out / "effects.csv", *effects_rows(analysis.tuned))


def title(analysis: Analysis) -> str:
    """What is compared on what; many arms are counted."""
    where = f"on {', '.join(analysis.tasks)}"
    if analysis.tuned:
        factors = [f"{factor.name} ({len(factor.levels)})" for factor in analysis.tuned.design.factors]
        return f"{' by '.join(factors)} {where}"
    names = ", ".join(analysis.arms)
    return f"{names if len(names) <= 100 else words.count(len(analysis.arms), 'arm')} {where}"


def summary_table(analysis: Analysis, letters: Mapping[str, str]) -> tuple[Cells, list[Cells]]:
    """What the primary measure says, a row for each arm, or for each level as tuned. letters: arm -> its letter in the
    pictures."""
    score = _short(analysis.options.primary, analysis)
    if analysis.tuned:
        return tuned_table(analysis.tuned, analysis.tuned_comparisons, score)
    against = {one.arm: one for one in analysis.declaring}
    rows = []
    for arm in analysis.arms:
        one, runs = against.get(arm), sum(map(len, analysis.values["final"][arm].values()))
        verdict = (
            "reference" if arm == analysis.reference else "n/a" if one is None else "yes" if one.declared else "no"
        )
        found = words.with_interval(analysis.levels[analysis.options.primary][arm])
        difference = "" if one is None else words.with_interval(one.difference, sign=True)
        rows.append([arm, *([letters[arm]] if letters else []), str(runs), found, difference, verdict])
    return [
        "arm",
        *(["in pictures"] if letters else []),
        "runs",
        score,
        f"less {short_reference(analysis.reference)}",
        "declared",
    ], rows


def levels_table(analysis: Analysis, plain: bool = False) -> tuple[Cells, list[Cells]]:
    show = full_number if plain else words.number
    header, rows = ["arm", "runs"], []
    for measure in analysis.values:
        header += [f"{_short(measure, analysis)}", "low", "high"] if plain else [_short(measure, analysis)]
    for arm in analysis.arms:
        row = [arm, str(sum(map(len, analysis.values["final"][arm].values())))]
        for measure in analysis.values:
            estimate = analysis.levels[measure][arm]
            cells = [show(estimate.value), show(estimate.low), show(estimate.high)]
            row += cells if plain else [words.with_interval(estimate)]
        rows.append(row)
    return header, rows


def comparisons_table(analysis: Analysis, plain: bool = False) -> tuple[Cells, list[Cells]]:
    if plain:
        header = ["arm", "reference", "measure", "pairs", "difference", "low", "high", "p", "p_holm", "declared",
                  "improvement", "improvement_low", "improvement_high", "spread", "smallest_declarable"]  # fmt: skip
    else:
        header = [
            f"arm \u2212 {short_reference(analysis.reference)}",
            "measure",
            "pairs",
            "difference",
            "P(improvement)",
            "p (Holm)",
            "declared",
        ]
    rows: list[Cells] = []
    order = sorted(analysis.values, key=lambda name: name != analysis.options.primary)
    for measure in order:
        for c in analysis.comparisons[measure]:
            d, i = c.difference, c.improvement
            primary = measure == analysis.options.primary and analysis.tuned is None
            if plain:
                numbers = [d.value, d.low, d.high, c.p, c.p_holm]
                rows.append([c.arm, analysis.reference, measure, str(len(c.pairs)), *map(full_number, numbers),
                             str(c.declared).lower() if primary else "",
                             *map(full_number, (i.value, i.low, i.high, d.spread, c.smallest))])  # fmt: skip
            else:
                verdict = ("yes" if c.declared else "no") if primary else "not tested"
                p = "n/a" if np.isnan(c.p_holm) else f"{c.p_holm:.2g}"
                rows.append([c.arm, MEASURES[measure], str(len(c.pairs)), words.with_interval(d, sign=True),
                             words.with_interval(i, ends=0), p, verdict])  # fmt: skip
    return header, rows


def factors_table(analysis: Analysis) -> tuple[Cells, list[Cells]]:
    """Settings in which arms differ, an arm a column; "?" for an arm without a config.yaml."""
    told = analysis.selection.settings
    rows: list[Cells] = [
        [key, *(told[arm].get(key, "?") if told.get(arm) else "?" for arm in analysis.arms)]
        for key in analysis.selection.factors
    ]
    header: Cells = ["setting", *analysis.arms]
    if len(analysis.arms) > 6:  # long is easier to read than wide
        header, *rows = zip(header, *rows, strict=True)
        header = ["arm", *header[1:]]
    return header, rows


def apart_table(study: Study, analysis: Analysis) -> tuple[Cells, list[Cells]]:
    rows: list[Cells] = [
        [one.run.task, one.run.arm, str(one.run.seed), one.reason, str(one.run.folder)] for one in analysis.apart
    ]
    rows += [["", "", "", one.reason, str(one.folder)] for one in study.skipped]
    return ["task", "arm", "seed", "why", "folder"], rows


def arrivals_table(analysis: Analysis) -> tuple[Cells, list[Cells]]:
    header: Cells = ["arm", "task", "runs that got there", "restricted mean", "standard error", "budget"]
    rows: list[Cells] = [
        [arm, task, f"{r.reached:.0%}", words.number(r.value), words.number(r.error), words.number(r.horizon)]
        for arm, tasks in analysis.arrivals.items()
        for task, r in tasks.items()
    ]
    return header, rows


def runs_table(study: Study, analysis: Analysis) -> tuple[Cells, list[Cells]]:
    """Every run that was read; those that are not compared have no scores, but a reason."""
    header = [
        "task",
        "arm",
        "seed",
        "finished",
        "steps",
        analysis.x,
        *analysis.values,
        "folder",
        "not compared because",
    ]
    rows = []
    for run, why in [*((run, "") for run in analysis.used), *((one.run, one.reason) for one in analysis.apart)]:
        scores = [np.nan if why else analysis.values[m][run.arm][run.task][run.seed] for m in analysis.values]
        ends = [_last(run.columns.get(name)) for name in ("step", analysis.x)]
        rows.append(
            [
                run.task,
                run.arm,
                str(run.seed),
                str(run.finished).lower(),
                *map(full_number, [*ends, *scores]),
                str(run.folder),
                why,
            ]
        )
    return header, rows


def _last(column) -> float:
    finite = column[np.isfinite(column)] if column is not None else ()
    return float(finite[-1]) if len(finite) else np.nan


def provenance(study: Study, analysis: Analysis) -> list[tuple[str, str]]:
    """What was run: command, commit, versions, folders."""
    sweep = study.sweep
    facts = [("made", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))]
    facts += [(key, str(sweep[key])) for key in ("command", "commit", "machine", "wall clock") if sweep.get(key)]
    versions = dict(sweep["versions"]) if isinstance(sweep.get("versions"), dict) else {}
    for run in analysis.used:
        versions.update(words.versions_of(run))
    versions = versions or _installed(("torch", "trl", "transformers"))
    facts.append(("versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))))
    facts.append(("runs", f"{len(analysis.used)} compared: {words.count(len(analysis.arms), 'arm')}, "
                          f"{words.count(len(analysis.tasks), 'task')}, "
                          f"seeds {', '.join(map(str, analysis.seeds))}"))  # fmt: skip
    facts.append(("folders", ", ".join(map(str, study.folders))))
    said = [run.summary.get("seconds") for run in analysis.used]
    if seconds := [float(value) for value in said if isinstance(value, int | float) and 0 < value < 1e12]:
        facts.append(
            ("training time", f"{sum(seconds) / 60:.1f} min over all runs, {np.median(seconds):.0f} s a run (median)")
        )
    return facts


def _html(
    study: Study, analysis: Analysis, tables, lead: int, said: PageWords, facts, names: list[str], out: Path
) -> str:
    declared, total = sum(c.declared for c in analysis.declaring), len(analysis.declaring)
    what = "level" if analysis.tuned else "arm"
    verdict = (
        f"{declared} of {words.count(total, what)} declared different from {analysis.against}"
        if total
        else "nothing compared"
    )
    seeds = analysis.tuned.test if analysis.tuned else analysis.seeds
    how = f"{MEASURES[analysis.options.primary]}, {words.count(len(seeds), 'seed')}, paired"
    sections = [
        f"<h2>{inert(name)}</h2>{html_table(header, rows, 'cards' if i < lead else '')}"
        for i, (name, header, rows) in enumerate(tables)
    ]
    parts = [
        f'<section class="summary">{sections[0]}</section>',
        '<section class="words"><div><h2>What can be concluded</h2>'
        f"{html_bullets(said.conclusions)}</div>"
        f"<div><h2>What cannot</h2>{html_bullets(said.cautions)}</div></section>",
    ]
    if len(tables[0][2]) > 12:  # rows that would bury the words
        parts.reverse()
    errors = "".join(
        f"<details><summary>{inert(cell.cell)}: {inert(cell.state)}</summary><pre>{inert(cell.error)}</pre></details>"
        for cell in study.missing
        if cell.error
    )
    body = [
        *parts,
        *sections[1:lead],
        html_pictures({name: _alt(name) for name in names}, out),
        f"<section>{''.join(sections[lead:])}",
        f"<h2>How the numbers came about</h2>{html_bullets(said.method)}",
        f"<h2>Cells that failed</h2>{errors}" if errors else "",
        f"<h2>What was run</h2>{html_table(('what', ''), facts, 'facts')}</section>",
    ]
    return html_sheet("Apportion report", title(analysis), verdict, how, "\n".join(body))


def _markdown(
    study: Study, analysis: Analysis, tables: Sequence[TitledTable], lead: int, said: PageWords, facts, names: list[str]
) -> str:
    parts = [f"# {markdown_cell(title(analysis))}"]
    for name, header, rows in tables[:lead]:
        parts += [f"## {name}", markdown_table(header, rows)]
    parts += ["## What can be concluded", markdown_list(said.conclusions)]
    parts += ["## What cannot", markdown_list(said.cautions)]
    parts += [f"![{_alt(name)}]({name}.png)" for name in names]
    for name, header, rows in tables[lead:]:
        parts += [f"## {name}", markdown_table(header, rows)]
    parts += [
        "## How the numbers came about",
        markdown_list(said.method),
        "## What was run",
        markdown_table(("what", ""), facts),
    ]
    return "\n\n".join(parts) + "\n"


def _unit(analysis: Analysis) -> str:
    return "steps" if analysis.x == "step" else "tokens"


def _short(measure: str, analysis: Analysis) -> str:
    names = {
        "final": f"final {analysis.options.metric}",
        "auc": "area under the curve",
        "tokens": f"{_unit(analysis)} to threshold",
        "final_steps": "final at equal steps",
        "held_out": "held-out reward",
    }
    return names[measure]


def _kind(name: str) -> str:
    return next(
        (kind for kind in sorted(_ALT, key=len, reverse=True) if name == kind or name.startswith(f"{kind}_")), name
    )


def _alt(name: str) -> str:
    return _ALT.get(_kind(name), name)


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
