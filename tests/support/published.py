"""Numbers of the documents against the data that they were made from.

A block of a document (a paragraph, a list or a table) is tied to its data by the comment before it:

    <!-- numbers: results/default_run.json -->
    <!-- numbers: results/doors/value_doors.csv; results/recorded.json > spans, tabular -->

Files are named from docs/; behind `>` stands the part of a JSON file. A list of numbers, one a seed, also holds its mean with
Student's 95 % interval, and its median. Every number of the block that has decimals, a thousands
comma or an interval must be found there as it is rounded; an interval `a [b, c]` in one record (a JSON object or list, a row of a
CSV file). `none: reason` says that a block holds settings, not results.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compare.statistics import mean_interval

ABOUT = ("page", "command", "commit", "versions")
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
MARK = re.compile(r"^<!-- numbers: (.+) -->$")
NUMBER = r"[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
INTERVAL = re.compile(rf"(?<![\w.])({NUMBER}) \[({NUMBER}), ({NUMBER})\]")
SHOWN = re.compile(rf"(?<![\w.,])({NUMBER})(?!\w*\d)( ?%| k\b)?")


@dataclass(frozen=True)
class Block:
    document: Path
    line: int
    text: str
    source: str | None

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    @property
    def plain(self) -> str:
        """Without code, links and formatting: what is left of numbers is a result."""
        text = re.sub(r"`[^`]*`|\]\([^)]*\)|^    .*$", "", self.text, flags=re.M)
        return text.replace("**", "").replace("\\|", " ")


def blocks_of(document: Path) -> Iterator[Block]:
    """Paragraphs, lists and tables, each with the source that the comment before it names."""
    lines, fenced, start, source = document.read_text(encoding="utf-8").splitlines(), False, None, None
    for number, line in enumerate([*lines, ""]):
        if line.startswith("```"):
            fenced = not fenced
        if mark := MARK.match(line):
            source = mark.group(1)
        elif line.strip() and not fenced and not line.startswith("```"):
            start = number if start is None else start
        elif start is not None:
            yield Block(document, start + 1, "\n".join(lines[start:number]), source)
            start, source = None, None


def shown_numbers(text: str) -> list[str]:
    """As written: those with decimals, an exponent or a thousands comma, per cent and thousands (`k`) included."""
    found = [(number, unit.strip()) for number, unit in SHOWN.findall(INTERVAL.sub("", text))]
    return [f"{number}{unit}" for number, unit in found if re.search(r"[.,]\d", number)]


def intervals(text: str) -> list[tuple[str, str, str]]:
    return INTERVAL.findall(text)


def records_of(source: str) -> list[list[float]]:
    """Numbers that stand together: of an object or a list of a JSON file, of a row of a CSV file."""
    found: list[list[float]] = []
    for part in source.split(";"):
        name, *path = (each.strip() for each in part.split(">", 1))
        file = DOCS / name
        if file.suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as lines:
                rows = csv.DictReader(lines)
                found += [_numbers(row.values()) for row in rows] + [_numbers(rows.fieldnames)]
            continue
        node = json.loads(file.read_text(encoding="utf-8"))
        for key in path[0].split(", ") if path else []:
            node = node[int(key) if isinstance(node, list) else key]
        found += list(_records(node))
    return found


def _records(node) -> Iterator[list[float]]:
    if isinstance(node, dict):
        node = {key: value for key, value in node.items() if key not in ABOUT}
        yield _numbers(node)  # names hold settings
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    numbers = _numbers(children)
    yield numbers
    if isinstance(node, list) and len(numbers) == len(node) > 2:  # one number a seed: what pages give of them
        mean = mean_interval([numbers])
        yield [mean.value, mean.low, mean.high, statistics.median(numbers)]
    for child in children:
        yield from _records(child)


def _numbers(values) -> list[float]:
    found = []
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(float(value))
        elif isinstance(value, str):
            found += [float(each.replace(",", "")) for each in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", value)]
    return found


def holds(record: list[float], shown: str) -> bool:
    """Whether a number of the record is written `shown` when it is rounded to as many places."""
    unit = 100.0 if shown.endswith("%") else 1e-3 if shown.endswith("k") else 1.0
    text = shown.rstrip("%k ").replace(",", "").replace("−", "-")
    mantissa, _, exponent = text.lower().partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0)
    half = 0.5000001 * 10.0**-places
    wanted = float(text)
    return any(
        math.isfinite(each) and min(abs(scale * each - wanted), abs(abs(scale * each) - wanted)) <= half
        for each in record
        for scale in {unit, 1.0}
    )
