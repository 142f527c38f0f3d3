"""Writes the page of an audit: one self-contained HTML file, the same in Markdown, a CSV, the JSON and the pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compare.report.numbers import number
from compare.report.plots import save
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
from compare.untrusted import write_file
from lab.audit import words
from lab.audit.picture import TITLES, alt, draw, labels_for
from lab.audit.reading import FILE, MEASURES, Reading, reading_of

NAMES = {
    "nsr": "noise over signal",
    "norm": "norm of the mean update",
    "cosine": "cosine",
    "relative_bias": "bias",
    "critical_batch": "critical batch",
    "length_push": "push on length",
}
PAIRS = 60  # pairs that a table lists


def write(audit: Mapping[str, Any], folder: Path) -> list[str]:
    """audit.html, audit.md, audit.json, strategies.csv and PNG pictures; what may be concluded, in sentences.

    Raises:
        ValueError: there is no strategy in it.
    """
    reading = reading_of(audit)
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw(reading)
    save(figures, folder)
    pictures = {name: alt(name) for name in figures}
    lead, tables = _tables(reading)
    write_file(folder / FILE, json.dumps(_strict(audit), indent=1) + "\n")
    write_file(folder / "audit.md", _markdown(reading, lead, tables, pictures))
    write_file(folder / "audit.html", _html(reading, lead, tables, pictures, folder))
    write_csv(folder / "strategies.csv", *_plain(reading))
    return words.findings(reading)


def _tables(reading: Reading) -> tuple[list[TitledTable], list[TitledTable]]:
    """Those above the pictures and those below."""
    labels = labels_for(reading.order)
    lead: list[TitledTable] = [("In short", *_short(reading, {arm: letter for letter, arm in labels.key}))]
    below: list[TitledTable] = [("What signal costs", *_costs(reading))]
    if any(row["norm"].known or row["cosine"].known for row in reading.numbers.values()):
        below.append(("Size and direction", *_directions(reading)))
    if pairs := _pairs(reading):
        below.append(("Pair by pair", *pairs))
    below += [(f"Share of the update by {TITLES[kind]} (%)", *_shares(reading, kind)) for kind in reading.shares]
    return lead, below


def _short(reading: Reading, letters: Mapping[str, str]) -> tuple[Cells, list[Cells]]:
    rows = []
    pushes = any(row["length_push"].value for row in reading.numbers.values() if row["length_push"].known)
    for name in reading.order:
        row, group = reading.numbers[name], reading.group_of(name)
        pair = reading.pair(name, reading.reference) if name != reading.reference else None
        against = "reference" if name == reading.reference else words.told(pair.ratio) if pair else ""
        bias = "reference" if name == reading.reference else words.bias_in_cell(row["relative_bias"])
        rows.append([name, *([letters[name]] if letters else []), "" if group is None else str(group + 1), words.in_cell(row["nsr"]),
                     against, bias, *([words.in_cell(row["length_push"], sign=True)] if pushes else [])])  # fmt: skip
    return [
        "strategy",
        *(["in pictures"] if letters else []),
        "rank by noise",
        "noise over signal",
        f"times that of {reading.reference or 'the reference'}",
        "bias",
        *(["push on length"] if pushes else []),
    ], rows


def _costs(reading: Reading) -> tuple[Cells, list[Cells]]:
    """Completions a step until signal and noise stand so and so, and what that is in batches of this size."""
    rows = []
    for name in reading.order:
        nsr, critical = reading.numbers[name]["nsr"], reading.numbers[name]["critical_batch"]
        share = number(1 / nsr.value) if nsr.value > 0 else "n/a"
        rows.append([name, share, *map(words.in_cell, (critical, critical.times(2.0), nsr.times(2.0)))])
    return [
        "strategy",
        f"signal over noise in a batch of {reading.completions}",
        "completions until signal equals noise",
        "until it is twice the noise",
        "that many times this batch",
    ], rows


def _directions(reading: Reading) -> tuple[Cells, list[Cells]]:
    rows = [
        [name, words.in_cell(row["norm"]), words.in_cell(row["cosine"])] for name, row in
        ((name, reading.numbers[name]) for name in reading.order)
    ]  # fmt: skip
    return ["strategy", "norm of the mean update", f"cosine with {reading.reference or 'the reference'}"], rows


def _pairs(reading: Reading) -> tuple[Cells, list[Cells]] | None:
    """Noise of one strategy over another's, neighbours of the ranking first."""
    order = reading.order
    found = [
        (abs(i - j), [f"{a} / {b}", words.told(pair.ratio), words.needed_for(pair)])
        for i, a in enumerate(order)
        for j, b in enumerate(order)
        if j < i and (pair := reading.pair(a, b)) is not None
    ]
    if not found:
        return None
    rows = [row for _, row in sorted(found, key=lambda one: one[0])]
    rest = [[f"and {len(rows) - PAIRS} more pairs in {FILE}", "", ""]] if len(rows) > PAIRS else []
    return ["noise of one over the other's", "ratio", "told apart"], [*rows[:PAIRS], *rest]


def _shares(reading: Reading, kind: str) -> tuple[Cells, list[Cells]]:
    rows = reading.shares[kind]
    columns = list(dict.fromkeys(one.label for slices in rows.values() for one in slices))
    body = []
    for name in (name for name in reading.order if name in rows):
        of = {one.label: one.share.times(100) for one in rows[name]}
        body.append([name, *(words.told(of[column]) if column in of else "" for column in columns)])
    return ["strategy", *columns], body


def _plain(reading: Reading) -> tuple[Cells, list[Cells]]:
    header = ["strategy", "rank", *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high"))]
    rows = []
    for name in reading.order:
        group = reading.group_of(name)
        ends = [(f.value, f.low, f.high) for f in (reading.numbers[name][key] for key in MEASURES)]
        rows.append(
            [name, "" if group is None else str(group + 1), *(full_number(end) for three in ends for end in three)]
        )
    return header, rows


def about_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run and what it took, a line each; what is nested in one line."""
    facts = []
    for key, value in about.items():
        if isinstance(value, Mapping):
            said = ", ".join(f"{name} {_said(one)}" for name, one in value.items())
        elif isinstance(value, list | tuple):
            said = ", ".join(map(_said, value))
        else:
            said = _said(value)
        if said:
            facts.append((str(key).replace("_", " "), said))
    return facts


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return str(value)


def _body(reading: Reading) -> list[tuple[str, list[str]]]:
    return [("What can be concluded", words.findings(reading)), ("What cannot", words.reservations(reading))]


def _html(
    reading: Reading, lead: list[TitledTable], below: list[TitledTable], pictures: Mapping[str, str], folder: Path
) -> str:
    def shown(tables: list[TitledTable], kind: str) -> list[str]:
        return [f"<h2>{inert(name)}</h2>{html_table(header, rows, kind)}" for name, header, rows in tables]

    said = "".join(f"<div><h2>{name}</h2>{html_bullets(lines)}</div>" for name, lines in _body(reading))
    said_first, basis = words.first_sentence(reading)
    body = [
        f'<section class="words">{said}</section>',
        f'<section class="summary">{"".join(shown(lead, "cards"))}</section>',
        html_pictures(pictures, folder),
        f"<section>{''.join(shown(below, 'arms'))}",
        f"<h2>How the numbers came about</h2>{html_bullets(words.definitions(reading))}",
        f"<h2>What was run, and what it took</h2>{html_table(('what', ''), about_rows(reading.about), 'facts')}</section>",
    ]
    return html_sheet("Apportion audit", words.audit_title(reading), said_first, basis, "\n".join(body))


def _markdown(reading: Reading, lead: list[TitledTable], below: list[TitledTable], pictures: Mapping[str, str]) -> str:
    said_first, basis = words.first_sentence(reading)
    parts = [f"# {markdown_cell(words.audit_title(reading))}", markdown_cell(f"{said_first} ({basis}).")]
    for name, lines in _body(reading):
        parts += [f"## {name}", markdown_list(lines)]
    for name, header, rows in lead:
        parts += [f"## {name}", markdown_table(header, rows)]
    parts += [f"![{text}]({name}.png)" for name, text in pictures.items()]
    for name, header, rows in below:
        parts += [f"## {name}", markdown_table(header, rows)]
    parts += ["## How the numbers came about", markdown_list(words.definitions(reading))]
    parts += ["## What was run, and what it took", markdown_table(("what", ""), about_rows(reading.about))]
    return "\n\n".join(parts) + "\n"


def _strict(value: Any) -> Any:
    """As JSON knows it: numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(key): _strict(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
