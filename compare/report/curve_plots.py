"""Learning curves: up to eight arms in one picture, more of them a panel each, so that every one can be told from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from compare.curves import smoothed
from compare.read import Run
from compare.report.analysis import Analysis, mean_curve, window_rows
from compare.report.design import level_text
from compare.report.drawing import COLOURS, GREY, INK, MOST, STYLES, Labels, keep_within, picture, wrapped
from compare.report.limits import Bounds, bounds_of
from userio.visible import visible

# What is drawn beside the metric where every run has it: column -> (its name in a title, words at the axis).
BESIDE = {
    "completions/mean_length": ("length", "mean length (tokens)"),
    "audit/critical_batch": ("critical batch", "completions at which signal equals noise"),
    "credit/turns": ("turns", "turns a conversation"),
    "credit/idle_turns": ("idle credit", "credit on turns that earned nothing (share)"),
    "tools/failure_frequency": ("tool failures", "tool calls that failed (share)"),
    "environments/failed": ("environment failures", "conversations that went wrong (share)"),
}
_LEAST = {"credit/turns": 1.0, "credit/idle_turns": 0.0, "tools/failure_frequency": 0.0, "environments/failed": 0.0}
_X = {"step": "optimiser step", "num_tokens": "tokens", "generated_tokens": "generated tokens"}


def beside(runs: Sequence[Run]) -> dict[str, str]:
    """column -> its name, of what every one of these runs has. What never leaves its least value is not drawn."""
    shared = {column: name for column, (name, _) in BESIDE.items() if all(column in run.columns for run in runs)}
    tops = {column: max(np.nanmax(run.columns[column], initial=-np.inf) for run in runs) for column in shared}
    return {column: name for column, name in shared.items() if tops[column] > _LEAST.get(column, -np.inf)}


class Curve(NamedTuple):
    """Mean over seeds and the ends of its pointwise interval, cut off where nothing can be."""

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curves(analysis: Analysis, labels: Labels, task: str, metric: str, x: str) -> Figure:
    """One picture of a metric on a task."""
    found: dict[str, Curve] = {}
    bounds = _bounds(analysis, metric)
    for arm in analysis.arms:
        if curve := _curve(analysis, arm, task, metric, x, bounds):
            found[arm] = curve
    is_metric = metric == analysis.options.metric
    name, axis = (metric, metric) if is_metric else BESIDE[metric]
    title = f"{visible(task)}: {name} over {'steps' if x == 'step' else 'tokens'}"
    title = "\n".join(wrapped(f"{title} (* chosen)" if analysis.tuned else title, 44))
    words = (_X.get(x, x), axis)
    if analysis.tuned is None and len(found) <= MOST:
        figure, axes = picture()
        _together(axes, labels, found, list(analysis.arms))
        if is_metric and x == analysis.x:
            _mark(axes, analysis, task)
        axes.set_xlabel(words[0])
        axes.set_ylabel(words[1])
        axes.set_title(title, loc="left")
        _axis(axes, x, bounds)
        return figure
    return _panels(analysis, labels, found, title, words, x, bounds)


def _bounds(analysis: Analysis, metric: str) -> Bounds:
    return analysis.bounds if metric == analysis.options.metric else bounds_of(metric, analysis.used)


def _curve(analysis: Analysis, arm: str, task: str, metric: str, x: str, bounds: Bounds) -> Curve | None:
    runs = [run for run in analysis.used if run.arm == arm and run.task == task]
    rows = [window_rows(analysis.window, run.curve("step", metric)[0]) for run in runs]
    each = [(run.curve(x, metric), k) for run, k in zip(runs, rows, strict=True)]
    smooth = [(grid, smoothed(y, k)) for (grid, y), k in each if len(grid)]
    if not smooth:
        return None
    grid, mean, half = mean_curve(smooth, min(one[0][-1] for one in smooth), 1)
    heights = (mean, mean - half, mean + half)
    return Curve(grid, *(np.clip(height, bounds.low, bounds.high) for height in heights))


def _together(axes: Axes, labels: Labels, found: dict[str, Curve], order: Sequence[str]) -> None:
    """A colour, a dash and a name at the end for each; a legend where names are long."""
    is_short = all(len(labels.of[arm]) <= 14 and "\n" not in labels.of[arm] for arm in found)
    for arm, curve in found.items():
        i = order.index(arm)
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(curve.x, curve.mean, color=colour, linestyle=style, linewidth=2, label=labels.of[arm])
    if is_short:
        _name_ends(axes, [(labels.of[a], c, COLOURS[order.index(a) % len(COLOURS)]) for a, c in found.items()], 8.5)
    elif found:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=min(len(found), 2), frameon=False,
                    handlelength=3.2, columnspacing=1.6)  # fmt: skip


def _name_ends(axes: Axes, lines: Sequence[tuple[str, Curve, Any]], size: float) -> None:
    """Names to the right of where the curves end, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_size_inches()[1] * 72  # type: ignore[union-attr]
    gap = (high - low) * size * 1.25 / height
    ordered = sorted(lines, key=lambda line: line[1].mean[-1])
    places = [float(curve.mean[-1]) for _, curve, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    if places and (over := places[-1] - high) > 0:
        places[-1] -= over
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - gap)
    for (name, curve, colour), place in zip(ordered, places, strict=True):
        axes.annotate(name, (curve.x[-1], curve.mean[-1]), xytext=(1.02, place), color=colour, fontsize=size,
                      textcoords=("axes fraction", "data"), va="center", annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 1})  # fmt: skip


def _panels(
    analysis: Analysis,
    labels: Labels,
    found: dict[str, Curve],
    title: str,
    words: tuple[str, str],
    x: str,
    bounds: Bounds,
) -> Figure:
    """Two panels a row, all with the same axes: of factors one for each level that is compared, with what was tuned from
    dark to light; else one for each arm, among the others in grey and the reference dashed."""
    tuned = analysis.tuned
    groups: list[tuple[str, list[str]]] = [(labels.whole[arm], [arm]) for arm in found]
    if tuned:
        levels = [
            level for level in tuned.design.compared.levels if any(a in found for a in tuned.design.arms_at(level))
        ]
        levels.sort(key=lambda level: level != tuned.reference)
        groups = [(level_text(level), [a for a in tuned.design.arms_at(level) if a in found]) for level in levels]
    rows = -(-len(groups) // 2)
    figure, grid = plt.subplots(
        rows,
        2,
        figsize=(5.3, 1.0 + (1.75 if rows > 2 else 2.1) * rows),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    ends: list = []
    for axes, (name, arms) in zip(grid.flat, groups, strict=False):
        ends.append((axes, _panel(axes, analysis, found, arms)))
        axes.set_title("\n".join(wrapped(visible(name), 28)), loc="left", fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        _axis(axes, x, bounds)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=x == "step"))
    for axes in list(grid.flat)[len(groups) :]:
        axes.set_visible(False)
    for axes, lines in ends:
        if len(lines) > 1:
            _name_ends(axes, lines, 7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    figure.supxlabel(words[0], fontsize=8.5)
    figure.supylabel(words[1], fontsize=8.5)
    return figure


def _panel(axes: Axes, analysis: Analysis, found: dict[str, Curve], arms: list[str]) -> list[tuple[str, Curve, Any]]:
    """Draws it; returns what is to be named at the ends of its lines."""
    tuned = analysis.tuned
    if tuned is None:
        for other, curve in found.items():
            axes.plot(curve.x, curve.mean, color="#cfd5db", linewidth=0.6, zorder=1)
            if other == analysis.reference and other not in arms:
                axes.plot(curve.x, curve.mean, color=INK, linewidth=1, linestyle=(0, (3, 2)), zorder=2)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, max(2, len(arms))))
    lines = []
    for i, arm in enumerate(arms):
        curve, colour = found[arm], shades[i] if len(arms) > 1 else COLOURS[0]
        is_chosen = tuned is not None and arm in tuned.chosen.values()
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        style = STYLES[i % len(STYLES)] if len(arms) > 1 else "-"
        axes.plot(curve.x, curve.mean, color=colour, linestyle=style, linewidth=2.4 if is_chosen else 1.4, zorder=3)
        if tuned:
            name = ", ".join(level_text(level) for level in tuned.design.of[arm][1:])
            lines.append((f"{name}{' *' if is_chosen else ''}", curve, colour))
    return lines if len(lines) <= MOST else []


def _axis(axes: Axes, x: str, bounds: Bounds) -> None:
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    keep_within(axes, bounds)
    if x == "step":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _mark(axes: Axes, analysis: Analysis, task: str) -> None:
    if np.isfinite(analysis.threshold[task]):
        axes.axhline(analysis.threshold[task], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.annotate("threshold", (0, analysis.threshold[task]), xycoords=("axes fraction", "data"), color=GREY,
                      xytext=(4, 3), textcoords="offset points", fontsize=8)  # fmt: skip
    axes.axvline(analysis.budget[task], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.annotate("budget", (analysis.budget[task], 0), xycoords=("data", "axes fraction"), color=GREY, fontsize=8,
                  xytext=(-3, 4), textcoords="offset points", ha="right")  # fmt: skip
