"""The pictures of a report, one per panel, so that a page can stack them on a narrow screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from compare.curves import smoothed
from compare.report.analysis import Analysis, mean_curve, window_rows
from compare.untrusted import write_file
from userio.visible import visible

# Okabe-Ito, told apart by colour-blind readers; line styles and end labels say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
STYLES = ("-", "--", "-.", ":")
INK, GREY, GRID = "#1f2933", "#66727f", "#e4e7eb"


def draw(analysis: Analysis) -> dict[str, Figure]:
    """Every picture by file name (without ending). The caller saves and closes them."""
    with plt.rc_context(_STYLE):
        figures, slugs = {}, _slugs(analysis.tasks)
        for task in analysis.tasks:
            suffix = "" if len(analysis.tasks) == 1 else f"_{slugs[task]}"
            figures[f"learning{suffix}"] = _curves(analysis, task, analysis.options.metric, analysis.x)
            if analysis.x != "step":
                figures[f"learning_steps{suffix}"] = _curves(analysis, task, analysis.options.metric, "step")
            if all("completions/mean_length" in run.columns for run in analysis.used):
                figures[f"length{suffix}"] = _curves(analysis, task, "completions/mean_length", "step")
        figures["final"] = _final(analysis)
        if analysis.comparisons[analysis.options.primary]:
            figures["differences"] = _differences(analysis)
        return figures


def save(figures: dict[str, Figure], folder: Path) -> None:
    """PNG files at twice the screen's resolution. Closes the figures."""
    for name, figure in figures.items():
        drawn = BytesIO()
        figure.savefig(drawn, dpi=160, format="png")
        write_file(folder / f"{name}.png", drawn.getvalue())
        plt.close(figure)


def colour_of(analysis: Analysis, arm: str) -> str:
    return COLOURS[analysis.arms.index(arm) % len(COLOURS)]


def _curves(analysis: Analysis, task: str, metric: str, x: str) -> Figure:
    """Mean over seeds with its pointwise 95 % interval; thin lines are single seeds."""
    figure, axes = _axes()
    ends = []
    for i, arm in enumerate(analysis.arms):
        runs = [run for run in analysis.used if run.arm == arm and run.task == task]
        rows = [window_rows(analysis.window, run.curve("step", metric)[0]) for run in runs]
        curves = [(run.curve(x, metric), k) for run, k in zip(runs, rows, strict=True)]
        curves = [(grid, smoothed(y, k)) for (grid, y), k in curves if len(grid)]
        if not curves:
            continue
        until = min(curve[0][-1] for curve in curves)
        grid, mean, half = mean_curve(curves, until, 1)
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(grid, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
        axes.plot(grid, mean, color=colour, linestyle=STYLES[i % len(STYLES)], linewidth=2, label=_short(arm))
        ends.append((arm, float(mean[-1]), colour))
    is_metric = metric == analysis.options.metric
    if is_metric and x == analysis.x:
        _mark(axes, analysis, task)
    axes.set_xlabel(
        {"step": "optimiser step", "num_tokens": "tokens", "generated_tokens": "generated tokens"}.get(x, x)
    )
    axes.set_ylabel(metric if is_metric else "mean completion length (tokens)")
    axes.set_title(
        f"{_short(task)}: {metric if is_metric else 'length'} over {'steps' if x == 'step' else 'tokens'}", loc="left"
    )
    if x == "step":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _legend(axes, [arm for arm, _, _ in ends])
    return figure


def _mark(axes: Axes, analysis: Analysis, task: str) -> None:
    if np.isfinite(analysis.threshold[task]):
        axes.axhline(analysis.threshold[task], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.annotate("threshold", (0, analysis.threshold[task]), xycoords=("axes fraction", "data"), color=GREY,
                      xytext=(4, 3), textcoords="offset points", fontsize=8)  # fmt: skip
    axes.axvline(analysis.budget[task], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.annotate("budget", (analysis.budget[task], 0), xycoords=("data", "axes fraction"), color=GREY, fontsize=8,
                  xytext=(-3, 4), textcoords="offset points", ha="right")  # fmt: skip


def _final(analysis: Analysis) -> Figure:
    """A bar per arm: IQM with interval; dots are seeds."""
    figure, axes = _axes(height=1.5 + 0.5 * len(analysis.arms))
    for i, arm in enumerate(analysis.arms):
        estimate, colour = analysis.levels["final"][arm], COLOURS[i % len(COLOURS)]
        axes.barh(i, estimate.value, height=0.56, color=colour, alpha=0.28, linewidth=0)
        if np.isfinite(estimate.low):
            axes.plot([estimate.low, estimate.high], [i, i], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([estimate.value], [i], "|", color=colour, markersize=17, markeredgewidth=2.6)
        seeds = [v for by_seed in analysis.values["final"][arm].values() for v in by_seed.values()]
        axes.plot(seeds, i + _spread(len(seeds)), "o", color=colour, markersize=3.6, alpha=0.75, markeredgewidth=0)
    _arm_axis(axes, list(analysis.arms))
    axes.set_xlabel(f"final {analysis.options.metric} at equal tokens")
    axes.set_title("Final score: IQM, 95 % interval, seeds", loc="left")
    return figure


def _differences(analysis: Analysis) -> Figure:
    """Paired differences of the primary measure; the shade is what this many seeds cannot tell from zero."""
    rows = analysis.comparisons[analysis.options.primary]
    figure, axes = _axes(height=1.5 + 0.55 * len(rows))
    for i, row in enumerate(rows):
        colour = colour_of(analysis, row.arm)
        if np.isfinite(row.smallest):
            axes.barh(i, 2 * row.smallest, left=-row.smallest, height=0.8, color=GREY, alpha=0.12, linewidth=0)
        if np.isfinite(row.difference.low):
            axes.plot([row.difference.low, row.difference.high], [i, i], color=colour, linewidth=2.2)
        face = colour if row.declared else "white"
        axes.plot(
            [row.difference.value], [i], "D", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.8
        )
        values = [pair[2] for pair in row.pairs]
        axes.plot(values, i + _spread(len(values)), "o", color=colour, markersize=3.6, alpha=0.75, markeredgewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    axes.use_sticky_edges = False  # the shade ends inside the picture
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _arm_axis(axes, [row.arm for row in rows])
    axes.set_xlabel(f"difference to {visible(analysis.reference)}, same seed")
    axes.set_title("Paired differences (filled: declared)", loc="left")
    return figure


def _axes(height: float = 3.3) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(5.3, height), layout="constrained")
    return figure, axes


def _arm_axis(axes: Axes, arms: list[str]) -> None:
    axes.set_yticks(range(len(arms)), [_short(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _legend(axes: Axes, arms: list[str]) -> None:
    if arms:
        columns = 4 if sum(map(len, arms[:4])) <= 36 else 3
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            ncols=min(len(arms), columns),
            frameon=False,
            handlelength=2.4,
            columnspacing=1.6,
        )


def _spread(count: int) -> np.ndarray:
    return np.linspace(-0.17, 0.17, count) if count > 1 else np.zeros(count)


def _short(text: str, width: int = 20) -> str:
    """At most three lines, broken where the settings of an arm are."""
    lines = [""]
    for word in re.findall(r"[^,]+,?", visible(text).replace("\n", " ")):
        if len(lines[-1] + word) <= width:
            lines[-1] += word
        else:
            lines.append(word if len(word) <= width else word[: width - 1] + "\u2026")
    lines = [line for line in lines if line]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[2][: width - 1] + "\u2026"])


def _slugs(tasks: Sequence[str]) -> dict[str, str]:
    """A file name for each task, no two alike."""
    slugs: dict[str, str] = {}
    for task in tasks:
        slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in task)[:60]
        slugs[task] = slug if slug not in slugs.values() else f"{slug}_{len(slugs)}"
    return slugs


_STYLE: Any = {
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
