"""Several audits side by side, checkpoints of one run or models: does the order of the strategies change?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from compare.report.drawing import COLOURS, GREY, MOST, STYLE, STYLES, wrapped
from compare.report.numbers import count, number
from compare.report.sheet import Cells, TitledTable
from lab.audit.picture import labels_for, log_window
from lab.audit.reading import Found, Reading
from lab.audit.words import joined, told, told_percent
from userio.visible import visible

PAIRS_NAMED = 4  # pairs of strategies that a sentence lists


@dataclass(frozen=True)
class Audits:
    """Readings in order, by what they are called; `names`: strategies that more than one of them has, in the order of the first."""

    readings: Mapping[str, Reading]

    @property
    def names(self) -> list[str]:
        seen: dict[str, int] = {}
        for reading in self.readings.values():
            for name in reading.order:
                seen[name] = seen.get(name, 0) + 1
        return [name for name, often in seen.items() if often > 1]


def audits_of(readings: Sequence[tuple[Path, Reading]]) -> Audits:
    """By the step of the checkpoint, where all say one; else by folder, in the order given.

    Raises:
        ValueError: fewer than two, or no strategy that two share.
    """
    if len(readings) < 2:
        raise ValueError("give at least two audits: python -m lab.audit.compare audits/one audits/other")
    steps = [reading.about.get("step") for _, reading in readings]
    if all(isinstance(step, int) for step in steps) and len(set(steps)) == len(steps):
        ordered = sorted(zip(steps, (reading for _, reading in readings), strict=True), key=lambda pair: pair[0])
        found = Audits({f"step {step}": reading for step, reading in ordered})
    else:
        found = Audits(
            dict(zip(_short_names([path for path, _ in readings]), (reading for _, reading in readings), strict=True))
        )
    if not found.names:
        raise ValueError("no two of these audits have a strategy in common, so there is nothing to lay side by side.")
    return found


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ; numbers behind those that do not."""
    parts = [path.parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{path.name or path} #{i + 1}" for i, path in enumerate(paths)]


def order_kept(one: Reading, other: Reading) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of strategies that both audits tell apart by their noise: those in the same order, and those whose order has turned,
    the quieter one of the first audit first."""
    same, turned = [], []
    names = [name for name in one.order if name in other.numbers]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            before, after = one.pair(a, b), other.pair(a, b)
            if (
                before is None
                or after is None
                or not (before.apart and after.apart and before.ratio.known and after.ratio.known)
            ):
                continue
            quieter = (a, b) if before.ratio.value < 1 else (b, a)
            (same if (before.ratio.value < 1) == (after.ratio.value < 1) else turned).append(quieter)
    return same, turned


def whether_it_holds(audits: Audits) -> str:
    """The page's first sentence."""
    found = [order_kept(one, other) for one, other in combinations(audits.readings.values(), 2)]
    if any(turned for _, turned in found):
        return "The order of the strategies by noise changes"
    seen = any(same for same, _ in found)
    return (
        "The order of the strategies by noise holds, where it can be seen"
        if seen
        else "Nothing is known of a change of the order"
    )


def changes(audits: Audits) -> list[str]:
    """Whether the ranking changes, from each audit to the next and from the first to the last; noise and bias that moved."""
    labels, lines = list(audits.readings), []
    steps = list(pairwise(labels))
    for before, after in [*steps, *([(labels[0], labels[-1])] if len(labels) > 2 else [])]:
        same, turned = order_kept(audits.readings[before], audits.readings[after])
        both = len(same) + len(turned)
        if not both:
            lines.append(
                f"From {before} to {after}: no pair of strategies is told apart in both, so nothing is known of the order."
            )
            continue
        said = f"From {before} to {after}: of {count(both, 'pair')} told apart in both, {len(same)} keep their order"
        listed = [f"{a} was quieter than {b}" for a, b in turned[:PAIRS_NAMED]]
        more = f" and {len(turned) - PAIRS_NAMED} more" if len(turned) > PAIRS_NAMED else ""
        lines.append(
            f"{said}, {len(turned)} turn round: {', '.join(listed)}{more}." if turned else f"{said}: the ranking holds."
        )
    first, last = audits.readings[labels[0]], audits.readings[labels[-1]]
    for word, moved in (("rises", _moved(first, last, 1)), ("falls", _moved(first, last, -1))):
        if moved:
            lines.append(
                f"From {labels[0]} to {labels[-1]} noise over signal {word} beyond its intervals under {joined(moved)}."
            )
    return lines


def _moved(first: Reading, last: Reading, sign: int) -> list[str]:
    moved = []
    for name in (name for name in first.order if name in last.numbers):
        a, b = first.numbers[name]["nsr"], last.numbers[name]["nsr"]
        if (b.low > a.high) if sign > 0 else (b.high < a.low):
            moved.append(name)
    return moved


def side_by_side(audits: Audits) -> list[TitledTable]:
    """Noise over signal, rank and bias of each strategy, an audit a column."""
    readings = audits.readings
    header: Cells = ["strategy", *readings]

    def rows(cell) -> list[Cells]:
        return [[name, *(cell(reading, name) if name in reading.numbers else "" for reading in readings.values())]
                for name in audits.names]  # fmt: skip

    def rank(reading: Reading, name: str) -> str:
        group = reading.group_of(name)
        return "" if group is None else str(group + 1)

    def bias(reading: Reading, name: str) -> str:
        return "reference" if name == reading.reference else told_percent(reading.numbers[name]["relative_bias"])

    return [
        ("Noise over signal", header, rows(lambda reading, name: told(reading.numbers[name]["nsr"]))),
        ("Rank by noise", header, rows(rank)),
        ("Bias", header, rows(bias)),
        (
            "Critical batch (completions)",
            header,
            rows(lambda reading, name: told(reading.numbers[name]["critical_batch"])),
        ),
    ]


def noise_over_audits(audits: Audits) -> Figure | None:
    """Up to eight strategies in one picture, more of them a panel each among the others in grey; None: no number."""
    names, labels = audits.names, labels_for(audits.names)
    found = {
        name: [reading.numbers.get(name, {}).get("nsr", Found()) for reading in audits.readings.values()]
        for name in names
    }
    window = log_window([one for each in found.values() for one in each])
    if window is None:
        return None
    with plt.rc_context(STYLE):
        together = len(names) <= MOST
        rows = 1 if together else math.ceil(len(names) / 3)
        figure, grid = plt.subplots(rows, 1 if together else 3, figsize=(5.3, 4.0 if together else 1.2 + 1.5 * rows), sharex=True,
                                    sharey=True, squeeze=False, layout="constrained")  # fmt: skip
        for i, name in enumerate(names):
            axes = grid.flat[0 if together else i]
            if not together:
                for other in names:
                    axes.plot([one.value for one in found[other]], color="#d5dade", linewidth=0.6, zorder=1)
                axes.set_title(_one_line(labels.whole[name]), loc="left", fontsize=8)
            colour = COLOURS[i % len(COLOURS)] if together else COLOURS[0]
            shift = 0.05 * (i - (len(names) - 1) / 2) if together else 0.0
            _line(
                axes, found[name], colour, STYLES[i % len(STYLES)] if together else "-", shift, window, labels.of[name]
            )
        for axes in grid.flat:
            axes.set_yscale("log")
            axes.set_ylim(*window)
            axes.yaxis.set_major_locator(
                LogLocator(base=10, subs=(1.0, 2.0, 5.0) if window[1] / window[0] < 300 else (1.0,), numticks=9)
            )
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            shown = ["\n".join(wrapped(visible(label), 14 if together else 6)) for label in audits.readings]
            axes.set_xticks(range(len(shown)), shown, fontsize=8 if together else 6.5)
            axes.set_xlim(-0.4, len(shown) - 0.6)
        for axes in list(grid.flat)[len(names) :] if not together else []:
            axes.set_visible(False)
        if together:
            figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5, handlelength=3)
        figure.supylabel("noise over signal", fontsize=9.5)
        figure.suptitle("Noise over signal, audit by audit", x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def _line(
    axes, each: Sequence[Found], colour: str, style, shift: float, window: tuple[float, float], label: str
) -> None:
    """Values joined; intervals as bars that end with the picture."""
    places = np.arange(len(each)) + shift
    axes.plot(places, [one.value for one in each], color=colour, linestyle=style, linewidth=1.8, marker="o", markersize=4,
              label=label.replace("\n", " "), zorder=3)  # fmt: skip
    for place, one in zip(places, each, strict=True):
        if not math.isnan(one.low):
            axes.plot([place, place], [max(one.low, window[0]), min(one.high, window[1])], color=colour if one.known else GREY,
                      linewidth=1.1, alpha=0.7, zorder=2)  # fmt: skip


def _one_line(text: str, most: int = 20) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
