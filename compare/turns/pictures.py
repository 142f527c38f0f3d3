"""Credit and reward by turn, a panel for each arm, a line for each stage of the run.

Shapes: K turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from compare.report.drawing import STYLE, Labels, wrapped
from compare.turns.steps import MOST_TURNS
from compare.turns.study import TurnShares, TurnStudy, mean_by_turn
from userio.visible import visible

PANELS = 12  # arms that are drawn
_STAGE = (("#7fb2d6", ":"), ("#2f7fb8", "--"), ("#0b3c5d", "-"))  # from early to late
# file name -> (title, words at the axis, vector of a run)
_WHAT: dict[str, tuple[str, str, Callable[[TurnShares], NDArray[np.float64] | None]]] = {
    "credit_by_turn": ("credit by turn", "share of sum |A w|", lambda part: part.share_K),
    "earned_by_turn": ("reward by turn", "earned there, mean of completions", lambda part: part.earned_K),
}


def draw_turns(study: TurnStudy, labels: Labels, suffixes: dict[str, str], level: float) -> dict[str, Figure]:
    """Every picture by file name, for tasks on which something was recorded. suffixes: task -> end of its file names."""
    figures = {}
    with plt.rc_context(STYLE):
        for task, suffix in suffixes.items():
            for name, (title, words, vector) in _WHAT.items():
                lines = {arm: _lines(study, arm, task, vector, level) for arm in study.arms[:PANELS]}
                lines = {arm: found for arm, found in lines.items() if found}
                if lines and study.turns(task) > 1:
                    stages = [
                        f"steps {first} to {last}" for first, last in (study.bounds(task, s) for s in study.stages)
                    ]
                    figures[f"{name}{suffix}"] = _panels(lines, labels, f"{visible(task)}: {title}", words, stages)
    return figures


Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # mean over runs, half width of its interval


def _lines(
    study: TurnStudy, arm: str, task: str, vector: Callable[[TurnShares], NDArray[np.float64] | None], level: float
) -> dict[int, Line]:
    """stage -> the line of an arm; without stages of which nothing is known."""
    found = {}
    for stage in study.stages:
        vectors = [one for part in study.parts(arm, task, [stage]) if (one := vector(part)) is not None]
        mean_K, half_K = mean_by_turn(vectors, study.turns(task), level)
        if np.isfinite(mean_K).any():
            found[stage] = mean_K, half_K
    return found


def _panels(lines: dict[str, dict[int, Line]], labels: Labels, title: str, words: str, stages: Sequence[str]) -> Figure:
    columns = min(2, len(lines))
    rows = -(-len(lines) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(5.3, 1.4 + (1.75 if rows > 2 else 2.1) * rows), sharex=True,
                                sharey=True, layout="constrained", squeeze=False)  # fmt: skip
    for axes, (arm, of_arm) in zip(grid.flat, lines.items(), strict=False):
        for stage, line in of_arm.items():
            _draw(axes, line, stage, stages[stage], is_last=stage == max(of_arm))
        axes.set_title("\n".join(wrapped(labels.whole[arm], 28)), loc="left", fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        axes.set_xlabel("turn", fontsize=8.5)
        axes.label_outer()
        axes.axhline(0, color="#9aa5b1", linewidth=0.8, zorder=1)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda turn, _: f"{turn:.0f}{'+' if turn == MOST_TURNS else ''}"))
    for axes in list(grid.flat)[len(lines) :]:
        axes.set_visible(False)
        grid[-2, 1].tick_params(labelbottom=True)  # nothing stands below this one
        grid[-2, 1].set_xlabel("turn", fontsize=8.5)
    figure.suptitle("\n".join(wrapped(title, 44)), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    figure.supylabel(words, fontsize=8.5)
    handles = dict(zip(*reversed(_handles(grid.flat)), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, line: Line, stage: int, name: str, is_last: bool) -> None:
    mean_K, half_K = line
    turn_K = np.arange(1, len(mean_K) + 1)
    colour, style = _STAGE[stage]
    if is_last:
        axes.fill_between(turn_K, mean_K - half_K, mean_K + half_K, color=colour, alpha=0.15, linewidth=0)
    axes.plot(turn_K, mean_K, color=colour, linestyle=style, linewidth=1.6, marker="o", markersize=2.6, label=name)


def _handles(grid) -> tuple[list, list[str]]:
    """Of all panels together: one may lack a stage."""
    every = [axes.get_legend_handles_labels() for axes in grid]
    pairs = [(handle, name) for handles, names in every for handle, name in zip(handles, names, strict=True)]
    pairs.sort(key=lambda pair: int(pair[1].split()[1]))
    return [handle for handle, _ in pairs], [name for _, name in pairs]
