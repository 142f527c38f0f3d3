"""Pictures of factors: a heat map of each that was tuned, and main effects with intervals."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from compare.report.analysis import MEASURES, Analysis
from compare.report.design import Factor, level_text
from compare.report.drawing import COLOURS, GREY, INK, WIDTH, arm_axis, picture, wrapped
from compare.report.numbers import number
from compare.report.tuning import Tuned
from userio.visible import visible


def heat_map(analysis: Analysis, tuned: Tuned, factor: Factor) -> Figure:
    """What is compared down, a tuned factor across: the mean over seeds, tasks and all other factors. Framed: chosen."""
    compared, i = tuned.design.compared, tuned.design.factors.index(factor)
    cells: dict[tuple[str, str], list[float]] = {}
    for arm, levels in tuned.design.of.items():
        tasks = analysis.values[analysis.options.primary][arm].values()
        means = [np.mean(list(seeds.values())) for seeds in tasks if seeds]
        if means:
            cells.setdefault((levels[0], levels[i]), []).append(float(np.mean(means)))
    heat = np.array(
        [[np.mean(cells.get((row, column), [np.nan])) for column in factor.levels] for row in compared.levels]
    )
    names = ["\n".join(wrapped(visible(level_text(level)), WIDTH)) for level in compared.levels]
    figure, axes = picture(1.5 + 0.36 * len(names) + 0.1 * sum(name.count("\n") for name in names))
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="#f1f3f5")
    drawn = axes.pcolormesh(np.ma.masked_invalid(heat), cmap=colours, edgecolors="white", linewidth=1)
    low, high = drawn.get_clim()
    size = 8.5 if len(factor.levels) <= 6 else 7.0 if len(factor.levels) <= 9 else 5.5
    for (y, x), value in np.ndenumerate(heat):
        dark = not np.isfinite(value) or value > (low + high) / 2
        text = "not run" if not np.isfinite(value) else number(float(value), scale=max(high - low, 1e-9) / 3)
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size, color=INK if dark else "white")
    for level, arm in tuned.chosen.items():
        x, y = factor.levels.index(tuned.design.of[arm][i]), compared.levels.index(level)
        axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=2.2))
    turned = max(len(level_text(level)) for level in factor.levels) * len(factor.levels) > 45
    axes.set_xticks(np.arange(len(factor.levels)) + 0.5, [visible(level_text(level)) for level in factor.levels],
                    rotation=40 if turned else 0, ha="right" if turned else "center")  # fmt: skip
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(factor.name)
    axes.set_title(
        f"{MEASURES[analysis.options.primary].capitalize()}: mean over all seeds\n(framed: chosen)", loc="left"
    )
    return figure


def effects(tuned: Tuned) -> Figure:
    """A panel for each factor: what a level does, less what another does, all else and the seed the same."""
    factors = [factor for factor in tuned.design.factors if any(one.factor == factor for one in tuned.effects)]
    rows = {factor.key: [one for one in tuned.effects if one.factor == factor] for factor in factors}
    heights = [len(each) + 1.5 for each in rows.values()]
    figure, grid = plt.subplots(len(factors), 1, figsize=(5.3, 0.9 + 0.3 * sum(heights)), sharex=True, squeeze=False,
                                height_ratios=heights, layout="constrained")  # fmt: skip
    for axes, factor, i in zip(grid.flat, factors, range(len(factors)), strict=True):
        for place, one in enumerate(rows[factor.key]):
            found = one.difference
            if np.isfinite(found.low):
                axes.plot([found.low, found.high], [place, place], color=COLOURS[i % len(COLOURS)], linewidth=2.2)
            axes.plot([found.value], [place], "D", color=COLOURS[i % len(COLOURS)], markersize=5.5)
        axes.axvline(0, color=INK, linewidth=1)
        arm_axis(axes, ["\n".join(wrapped(visible(level_text(one.level)), WIDTH)) for one in rows[factor.key]])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        base = rows[factor.key][0].reference
        axes.set_title(f"{factor.name}, less {visible(level_text(base))}", loc="left", fontsize=9.5, color=GREY)
    figure.suptitle("Main effects, 95 % intervals", x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure
