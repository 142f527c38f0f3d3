"""The pictures of a report, one per file, so that a page can stack them on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compare.report.analysis import Analysis
from compare.report.curve_plots import beside, curves
from compare.report.design import level_text
from compare.report.drawing import (
    COLOURS,
    GREY,
    INK,
    STYLE,
    WIDTH,
    Labels,
    arm_axis,
    keep_within,
    labels_of,
    picture,
    spread,
    wrapped,
)
from compare.report.factor_plots import effects, heat_map
from compare.untrusted import write_file
from userio.visible import visible


def draw(analysis: Analysis) -> dict[str, Figure]:
    """Every picture by file name (without ending), what sums up first. The caller saves and closes them."""
    with plt.rc_context(STYLE):
        figures, labels = {}, labels_of(analysis)
        if analysis.tuned:
            for factor in analysis.tuned.design.tuned:
                name = "heat" if len(analysis.tuned.design.tuned) == 1 else f"heat_{_slugs([factor.name])[factor.name]}"
                figures[name] = heat_map(analysis, analysis.tuned, factor)
        if analysis.declaring:
            figures["differences"] = _differences(analysis, labels)
        if analysis.tuned and analysis.tuned.effects:
            figures["effects"] = effects(analysis.tuned)
        figures["final"] = _final(analysis, labels)
        for task, suffix in suffixes(analysis.tasks).items():
            figures[f"learning{suffix}"] = curves(analysis, labels, task, analysis.options.metric, analysis.x)
            if analysis.x != "step":
                figures[f"learning_steps{suffix}"] = curves(analysis, labels, task, analysis.options.metric, "step")
            for column, name in beside([run for run in analysis.used if run.task == task]).items():
                figures[f"{name.replace(' ', '_')}{suffix}"] = curves(analysis, labels, task, column, "step")
        return figures


def save(figures: dict[str, Figure], folder: Path) -> None:
    """PNG files at twice the screen's resolution. Closes the figures."""
    for name, figure in figures.items():
        drawn = BytesIO()
        figure.savefig(drawn, dpi=160, format="png")
        write_file(folder / f"{name}.png", drawn.getvalue())
        plt.close(figure)


def _final(analysis: Analysis, labels: Labels) -> Figure:
    """A bar per arm: IQM with interval; dots are seeds. Arms of one level stand together."""
    arms = list(analysis.arms)
    hues = {arm: i for i, arm in enumerate(arms)}
    if tuned := analysis.tuned:
        hues = {arm: tuned.design.compared.levels.index(tuned.design.level(arm)) for arm in arms}
        arms.sort(key=lambda arm: (tuned.design.level(arm) != tuned.reference, tuned.design.place(arm)))
    lines = max(labels.of[arm].count("\n") + 1 for arm in arms)
    each = 0.5 if len(arms) <= 12 else 0.3
    figure, axes = picture(1.5 + max(each, 0.17 * lines) * len(arms))
    for i, arm in enumerate(arms):
        estimate, colour = analysis.levels["final"][arm], COLOURS[hues[arm] % len(COLOURS)]
        axes.barh(i, estimate.value, height=0.56, color=colour, alpha=0.28, linewidth=0)
        if np.isfinite(estimate.low):
            axes.plot([estimate.low, estimate.high], [i, i], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([estimate.value], [i], "|", color=colour, markersize=17 if each == 0.5 else 11, markeredgewidth=2.6)
        seeds = [v for by_seed in analysis.values["final"][arm].values() for v in by_seed.values()]
        axes.plot(seeds, i + spread(len(seeds)), "o", color=colour, markersize=3.6, alpha=0.75, markeredgewidth=0)
    arm_axis(axes, [labels.of[arm] for arm in arms])
    keep_within(axes, analysis.bounds, "x")
    axes.set_xlabel(f"final {analysis.options.metric} at equal tokens")
    axes.set_title("Final score: IQM, 95 % interval, seeds", loc="left")
    return figure


def _differences(analysis: Analysis, labels: Labels) -> Figure:
    """Paired differences of the primary measure; the shade is what this many seeds cannot tell from zero."""
    rows = analysis.declaring
    names = [
        labels.of[row.arm] if not analysis.tuned else "\n".join(wrapped(visible(level_text(row.arm)), WIDTH))
        for row in rows
    ]
    each = 0.55 if len(rows) <= 12 else 0.3
    lines = max(name.count("\n") + 1 for name in names)
    figure, axes = picture(1.5 + max(each, 0.17 * lines) * len(rows))
    for i, row in enumerate(rows):
        colour = COLOURS[(i + 1) % len(COLOURS)]
        if analysis.tuned:
            colour = COLOURS[analysis.tuned.design.compared.levels.index(row.arm) % len(COLOURS)]
        if np.isfinite(row.smallest):
            half = min(row.smallest, analysis.bounds.width if analysis.options.primary != "tokens" else np.inf)
            axes.barh(i, 2 * half, left=-half, height=0.8, color=GREY, alpha=0.12, linewidth=0)
        if np.isfinite(row.difference.low):
            axes.plot([row.difference.low, row.difference.high], [i, i], color=colour, linewidth=2.2)
        face = colour if row.declared else "white"
        axes.plot(
            [row.difference.value], [i], "D", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.8
        )
        values = [pair[2] for pair in row.pairs]
        axes.plot(values, i + spread(len(values)), "o", color=colour, markersize=3.6, alpha=0.75, markeredgewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    axes.use_sticky_edges = False  # the shade ends inside the picture
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    arm_axis(axes, names)
    against = labels.of[analysis.reference] if not analysis.tuned else level_text(analysis.against)
    axes.set_xlabel(f"difference to {visible(against)}, same seed")
    what = f"\n(each {analysis.tuned.design.compared.name} as tuned)" if analysis.tuned else ""
    axes.set_title(f"Paired differences, filled: declared{what}", loc="left")
    return figure


def suffixes(tasks: Sequence[str]) -> dict[str, str]:
    """How file names of pictures of a task end; nothing where there is one task."""
    return {task: "" if len(tasks) == 1 else f"_{slug}" for task, slug in _slugs(tasks).items()}


def _slugs(tasks: Sequence[str]) -> dict[str, str]:
    """A file name for each task, no two alike."""
    slugs: dict[str, str] = {}
    for task in tasks:
        slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in task)[:60]
        slugs[task] = slug if slug not in slugs.values() else f"{slug}_{len(slugs)}"
    return slugs
