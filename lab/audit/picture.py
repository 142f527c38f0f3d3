"""The pictures of an audit, one per file, so that a page can stack them on a narrow screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from compare.report.drawing import COLOURS, GREY, INK, STYLE, Labels, arm_axis, lettered, picture
from compare.report.numbers import number
from lab.audit.reading import Found, Reading
from lab.audit.words import is_biased
from userio.visible import visible

TITLES = {"position": "token position", "turn": "turn", "length": "length of the text", "reward": "reward function"}
_ANGLES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)  # relative biases that get a tick
FAR, WIDER = 1e3, 30.0  # of a logarithmic axis: values from their median, and ends of intervals from all values
PANELS = 6  # strategies whose update is shown by position and length
TEXTS = 10  # columns of a heat map whose cells still hold a number


def draw(reading: Reading) -> dict[str, Figure]:
    """Every picture by file name (without ending), what sums up first. The caller saves and closes them."""
    labels, figures = labels_for(reading.order), {}
    with plt.rc_context(STYLE):
        if drawn := _noise(reading, labels):
            figures["noise"] = drawn
        if drawn := _bias_and_noise(reading, labels):
            figures["bias"] = drawn
        if drawn := _push(reading, labels):
            figures["length_push"] = drawn
        for kind in reading.shares:
            figures[f"where_{kind}"] = _heat(reading, labels, kind)
        if reading.places:
            figures["where_place"] = _place_heat(reading, labels)
    return figures


def labels_for(names: Sequence[str]) -> Labels:
    return lettered({name: visible(name).replace("\n", " ") for name in names})


def alt(name: str) -> str:
    """What a picture shows, for those who do not see it."""
    fixed = {
        "noise": "Noise over signal of each strategy with its interval",
        "bias": "Bias against noise",
        "length_push": "Push on length with interval",
        "where_place": "Share of the update by token position and length of the text",
    }
    return fixed.get(name) or f"Share of the update by {TITLES[name.removeprefix('where_')]}"


def _rows(figure_rows: int, labels: Labels, names: Sequence[str]) -> tuple[Figure, Axes]:
    lines = max(labels.of[name].count("\n") + 1 for name in names)
    return picture(1.7 + max(0.42 if figure_rows <= 12 else 0.26, 0.17 * lines) * figure_rows)


def colour_of(reading: Reading, name: str) -> str:
    """One for each group that cannot be told apart."""
    group = reading.group_of(name)
    return GREY if group is None else COLOURS[group % len(COLOURS)]


def _noise(reading: Reading, labels: Labels) -> Figure | None:
    shown = {name: reading.numbers[name]["nsr"] for name in reading.order}
    if (window := log_window(shown.values(), 1.0)) is None:
        return None
    figure, axes = _rows(len(shown), labels, list(shown))
    left, right = window
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    for place, (name, found) in enumerate(shown.items()):
        draw_interval(axes, place, found, colour_of(reading, name), (left, right))
    for start, stop, shaded in _bands(reading):
        axes.axhspan(start - 0.5, stop - 0.5, color=GREY, alpha=0.09 if shaded else 0.0, linewidth=0)
    axes.axvline(1.0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    arm_axis(axes, [labels.of[name] for name in shown])
    log_ticks(axes)
    n = reading.completions
    axes.set_xlabel(f"noise over signal in a batch{f' of {n}' if n else ''}")
    if n:
        top = axes.secondary_xaxis("top", functions=(lambda x: x * n, lambda x: x / n))  # type: ignore[operator]
        top.set_xlabel("completions at which signal equals noise", color=GREY, fontsize=8.5)
        top.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
        top.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        top.xaxis.set_minor_formatter(NullFormatter())
        top.tick_params(labelsize=8.5)
    axes.set_title("Noise over signal\n(one colour and shade: not told apart)", loc="left")
    return figure


def _bands(reading: Reading) -> list[tuple[int, int, bool]]:
    """(first row, row behind the last, whether shaded) of each group."""
    bands, start = [], 0
    for place, group in enumerate(reading.groups):
        bands.append((start, start + len(group), place % 2 == 0))
        start += len(group)
    return bands


def log_window(found: Iterable[Found], *more: float) -> tuple[float, float] | None:
    """Limits of a logarithmic axis: all values (and `more`), and of their intervals what does not dwarf them; None without any."""
    found = list(found)
    middles = [one.value for one in found if 0 < one.value < math.inf] or [
        e for one in found for e in (one.low, one.high) if 0 < e < math.inf
    ]
    if not middles:
        return None
    centre = float(np.median(middles))
    middles = [*(min(max(value, centre / FAR), centre * FAR) for value in middles), *more]
    low, high = min(middles), max(middles)
    ends = [end for one in found for end in (one.low, one.high) if low / WIDER <= end <= high * WIDER]
    return min([low, *ends]) / 1.3, max([high, *ends]) * 1.3


def draw_interval(axes: Axes, place: float, found: Found, colour: str, limits: tuple[float, float]) -> None:
    """A point with its interval; an end without bound is an arrow at the edge of the picture."""
    low, high = (found.value, found.value) if math.isnan(found.low) else (found.low, found.high)
    ends = [min(max(end, limits[0]), limits[1]) for end in (low, high)]
    if not any(map(math.isnan, ends)) and ends[0] < ends[1]:
        axes.plot(ends, [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    for end, edge, mark in ((low, limits[0], "<"), (high, limits[1], ">")):
        if (end <= limits[0] and mark == "<") or (end >= limits[1] and mark == ">"):
            axes.plot([edge], [place], mark, color=colour, markersize=6, clip_on=False)
    if found.known and limits[0] <= found.value <= limits[1]:
        axes.plot([found.value], [place], "D", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
    elif math.isnan(low) and math.isnan(high):
        axes.text(0.02, place, "n/a", transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=8.5)


def log_ticks(axes: Axes) -> None:
    """Ticks that a reader can read, however few decades there are."""
    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bias_and_noise(reading: Reading, labels: Labels) -> Figure | None:
    """Height is the angle to the reference's update, so that no bias is too large to be shown."""
    shown = {
        name: (row["nsr"], row["relative_bias"])
        for name, row in reading.numbers.items()
        if name != reading.reference and row["nsr"].value > 0 and not math.isnan(_height(row["relative_bias"]))
    }
    if not shown:
        return None
    own = reading.numbers.get(reading.reference, {}).get("nsr", Found())
    limits = log_window([noise for noise, _ in shown.values()], *([own.value] if own.value > 0 else []))
    if limits is None:
        return None
    figure, axes = picture(4.2)
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    tops = [end for _, bias in shown.values() for end in (bias.high, _height(bias)) if not math.isnan(end)]
    top = math.degrees(math.atan(max(tops)))
    axes.set_ylim(-0.04 * max(top, 8), min(1.15 * max(top, 8), 94))
    points = []
    for name, (noise, bias) in shown.items():
        x, y, colour = noise.value, math.degrees(math.atan(_height(bias))), colour_of(reading, name)
        low, high = (noise.value,) * 2 if math.isnan(noise.low) else (noise.low, noise.high)
        axes.plot([max(low, limits[0]), min(high, limits[1])], [y, y], color=colour, linewidth=1.3, alpha=0.7)
        if not math.isnan(bias.low):
            down, up = (math.degrees(math.atan(max(end, 0.0))) for end in (bias.low, bias.high))
            axes.plot([x, x], [down, up], color=colour, linewidth=1.3, alpha=0.7)
        face = colour if is_biased(bias) else "white"
        axes.plot([x], [y], "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.6, zorder=3)
        points.append((x, y, labels.of[name].replace("\n", " ")))
    if own.value > 0:
        axes.axvline(own.value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.text(own.value, 0.99, f" {labels.of[reading.reference].replace(chr(10), ' ')}", transform=axes.get_xaxis_transform(),
                  va="top", color=GREY, fontsize=8.5)  # fmt: skip
    log_ticks(axes)
    ticks = [tick for tick in _ANGLES if math.degrees(math.atan(tick)) <= axes.get_ylim()[1]]
    axes.set_yticks([math.degrees(math.atan(tick)) for tick in ticks], [f"{100 * tick:g}\u00a0%" for tick in ticks])
    axes.set_xlabel("noise over signal")
    axes.set_ylabel(f"bias against {labels.of.get(reading.reference, 'the reference')}")
    axes.set_title("Bias against noise; hollow: no bias seen", loc="left")
    _name_points(figure, axes, points)
    return figure


def _height(bias: Found) -> float:
    """Where a point stands: its value, else the middle of what is left open, else nowhere."""
    if bias.known:
        return max(bias.value, 0.0)
    return bias.high / 2 if math.isfinite(bias.high) else math.nan


def _name_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Each name beside its point, moved up or down until it covers no other name."""
    figure.canvas.draw()
    size = 8.5 if len(points) <= 12 else 6.5
    taken: list[tuple[float, float, float, float]] = []
    width_of_letter, height = 0.66 * size * figure.dpi / 72, 1.25 * size * figure.dpi / 72
    right = axes.get_window_extent().x1
    for x, y, text in sorted(points, key=lambda point: -point[1]):
        px, py = axes.transData.transform((x, y))
        width = width_of_letter * len(text)
        left = px + 9 if px + 9 + width <= right else px - 9 - width
        tries = [step * height / 2 for k in range(60) for step in ((k, -k) if k else (0,))]
        shift = next((move for move in tries if not any(
            left < b[2] and b[0] < left + width and py + move < b[3] and b[1] < py + move + height for b in taken)), 0.0)  # fmt: skip
        taken.append((left, py + shift, left + width, py + shift + height))
        place = axes.transData.inverted().transform((left, py + shift))
        axes.annotate(text, (place[0], place[1]), fontsize=size, va="center", annotation_clip=False)


def _push(reading: Reading, labels: Labels) -> Figure | None:
    shown = {name: reading.numbers[name]["length_push"] for name in reading.order}
    values = [found.value for found in shown.values() if found.known]
    if not any(values):  # nothing pushes: all texts have one length
        return None
    figure, axes = _rows(len(shown), labels, list(shown))
    low, high = min([*values, 0.0]), max([*values, 0.0])
    ends = [end for found in shown.values() for end in (found.low, found.high)]
    near = [end for end in ends if low - 2 * (high - low) <= end <= high + 2 * (high - low)]
    low, high = min([low, *near]), max([high, *near])
    room = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    for place, (name, found) in enumerate(shown.items()):
        draw_interval(axes, place, found, colour_of(reading, name), (low - room, high + room))
    axes.axvline(0.0, color=INK, linewidth=1)
    own = shown.get(reading.reference, Found())
    if own.known:
        axes.axvline(own.value, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    arm_axis(axes, [labels.of[name] for name in shown])
    axes.set_xlabel("change of expected length for a unit step")
    axes.set_title("Push on length; dashed: the reference's own", loc="left")
    return figure


def _heat(reading: Reading, labels: Labels, kind: str) -> Figure:
    """Strategies down, slices across. Pale numbers: the interval holds 0."""
    rows = {name: reading.shares[kind][name] for name in reading.order if name in reading.shares[kind]}
    columns = list(dict.fromkeys(one.label for slices in rows.values() for one in slices))
    cells = {name: {one.label: one.share for one in slices} for name, slices in rows.items()}
    heat = np.array([[cells[name].get(column, Found()).value for column in columns] for name in rows])
    figure, axes = _rows(len(rows), labels, list(rows))
    most = float(np.nanmax(np.abs(heat))) if np.isfinite(heat).any() else 1.0
    colours = plt.get_cmap("RdBu").with_extremes(bad="#f1f3f5")
    most = most or 1.0
    drawn = axes.pcolormesh(np.ma.masked_invalid(heat), cmap=colours, norm=TwoSlopeNorm(0.0, -most, most),
                            edgecolors="white", linewidth=1 if len(columns) <= 24 else 0)  # fmt: skip
    size = 8.5 if len(columns) <= 6 else 7.0
    for (y, x), value in np.ndenumerate(heat):
        found = list(cells.values())[y].get(columns[x], Found())
        if len(columns) > TEXTS or not found.known:
            continue
        unsure = found.low <= 0 <= found.high
        colour = "white" if abs(value) > 0.6 * most else GREY if unsure else INK
        axes.text(x + 0.5, y + 0.5, f"{round(100 * value):d}".replace("-", "\u2212"), ha="center", va="center", fontsize=size,
                  color=colour, fontstyle="italic" if unsure else "normal")  # fmt: skip
    every = max(1, math.ceil(len(columns) / 12))
    names = [visible(column).replace("\n", " ") for column in columns]
    turned = max(map(len, names)) * len(names[::every]) > 45
    axes.set_xticks(np.arange(len(columns))[::every] + 0.5, [_cut(name) for name in names[::every]],
                    rotation=40 if turned else 0, ha="right" if turned else "center", fontsize=8.5)  # fmt: skip
    axes.set_yticks(
        np.arange(len(rows)) + 0.5, [labels.of[name] for name in rows], fontsize=9.5 if len(rows) <= 12 else 8
    )
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(columns) > TEXTS:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}\u00a0%"))
    axes.set_xlabel(TITLES[kind])
    axes.set_title(f"Where the update goes, by {TITLES[kind]} (%)", loc="left")
    return figure


def _place_heat(reading: Reading, labels: Labels) -> Figure:
    """A panel for each of the first strategies: token position across, length of the text down, one scale for all."""
    names = [name for name in reading.order if name in reading.places][:PANELS]
    rows = list(dict.fromkeys(row for name in names for row, _ in reading.places[name]))
    columns = list(dict.fromkeys(column for name in names for _, column in reading.places[name]))
    heats = [
        np.array([[reading.places[name].get((row, column), Found()).value for column in columns] for row in rows])
        for name in names
    ]
    known = [float(np.nanmax(np.abs(heat))) for heat in heats if np.isfinite(heat).any()]
    most = max(known, default=1.0) or 1.0
    lines = -(-len(names) // 2)
    figure, grid = plt.subplots(lines, 2, figsize=(5.3, 1.0 + 1.75 * lines), sharex=True, sharey=True, layout="constrained",
                                squeeze=False)  # fmt: skip
    colours = plt.get_cmap("RdBu").with_extremes(bad="#f1f3f5")
    every = max(1, math.ceil(len(columns) / 5))
    for axes, name, heat in zip(grid.flat, names, heats, strict=False):
        drawn = axes.pcolormesh(
            np.ma.masked_invalid(heat), cmap=colours, norm=TwoSlopeNorm(0.0, -most, most), edgecolors="white"
        )
        axes.set_title(
            labels.whole[name] if len(labels.whole[name]) <= 26 else _cut(labels.whole[name], 26),
            loc="left",
            fontsize=8.5,
        )
        axes.set_xticks(
            np.arange(len(columns))[::every] + 0.5, [_cut(column) for column in columns[::every]], fontsize=7
        )
        axes.set_yticks(np.arange(len(rows)) + 0.5, [_cut(row) for row in rows], fontsize=7)
        axes.grid(visible=False)
        axes.tick_params(length=0)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    bar = figure.colorbar(drawn, ax=grid, shrink=0.7, pad=0.02)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}\u00a0%"))
    bar.ax.tick_params(labelsize=7.5)
    figure.suptitle(
        "Where the update goes, by position and length", x=0.01, ha="left", fontsize=10.5, fontweight="bold"
    )
    figure.supxlabel("token position", fontsize=8.5)
    figure.supylabel("length of the text", fontsize=8.5)
    return figure


def _cut(text: str, most: int = 18) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
