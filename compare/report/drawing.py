"""What all pictures share: colours that differ, names that are wrapped or lettered and never cut, axes of arms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compare.report.analysis import Analysis
from compare.report.design import level_text
from compare.report.limits import Bounds
from userio.visible import visible

# Okabe-Ito, told apart by colour-blind readers; line styles and end labels say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2)), (0, (8, 3)))
INK, GREY, GRID = "#1f2933", "#66727f", "#e4e7eb"
WIDTH, LINES = 22, 3  # letters and lines of a name beside an axis
MOST = 8  # lines in one picture that are still told apart


@dataclass(frozen=True)
class Labels:
    """`of`: arm -> what pictures call it, in lines. `whole`: the same in one line. `key`: (letter, arm), where names are too
    long to stand there."""

    of: dict[str, str]
    whole: dict[str, str]
    key: tuple[tuple[str, str], ...] = ()


def labels_of(analysis: Analysis) -> Labels:
    """Names wrapped; letters for all of them if one would need more than three lines, or many more than two. Of
    factors, the levels alone."""
    names = {arm: visible(arm).replace("\n", " ") for arm in analysis.arms}
    if analysis.tuned:
        of = analysis.tuned.design.of
        names = {arm: ", ".join(visible(level_text(level)) for level in of[arm]) for arm in analysis.arms}
    return lettered(names)


def lettered(names: Mapping[str, str]) -> Labels:
    """names: arm -> what it is called, in one line."""
    lines = {arm: wrapped(name) for arm, name in names.items()}
    if max(map(len, lines.values()), default=0) <= (LINES if len(lines) <= 12 else 2):
        return Labels({arm: "\n".join(each) for arm, each in lines.items()}, dict(names))
    key = tuple((letter_of(i), arm) for i, arm in enumerate(names))
    of = {arm: letter for letter, arm in key}
    return Labels(of, of, key)


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` letters, broken after what separates, else inside of a word; nothing is left out."""
    lines = [""]
    for piece in re.findall(r"[^\s,/=_\-.()]*[\s,/=_\-.()]+|[^\s,/=_\-.()]+", text):
        while len(lines[-1]) + len(piece.rstrip()) > width:
            if lines[-1].strip():
                lines.append("")
            else:
                lines[-1], piece = piece[:width], piece[width:]
                lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines if line.strip()] or [""]


def letter_of(number: int) -> str:
    """A to Z, AA, AB, ..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(65 + rest) + text
    return text


def picture(height: float = 3.3) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(5.3, height), layout="constrained")
    return figure, axes


def arm_axis(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first at the top."""
    size = 9.5 if len(names) <= 12 else 8.0
    axes.set_yticks(range(len(names)), list(names), fontsize=size, linespacing=0.95)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def spread(count: int) -> np.ndarray:
    """Where the dots of so many seeds stand, so that none hides another."""
    return np.linspace(-0.17, 0.17, count) if count > 1 else np.zeros(count)


def keep_within(axes: Axes, bounds: Bounds, axis: str = "y") -> None:
    """Ends an axis where nothing can be."""
    get, put = (axes.get_ylim, axes.set_ylim) if axis == "y" else (axes.get_xlim, axes.set_xlim)
    low, high = get()
    room = 0.015 * (high - low)  # a line along the edge is not halved
    put(max(low, bounds.low - room), min(high, bounds.high + room))


STYLE: Any = {
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": GREY,
    "ytick.color": INK,
    "text.parse_math": False,  # names of arms are data
}
