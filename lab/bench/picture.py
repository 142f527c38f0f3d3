"""The bench's picture: bias against noise, one point for each strategy. Strategies without bias stand in a strip below,
because a logarithm has no zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from lab.bench.summary import Summary
from lab.measure.declarations import ROUNDING_BIAS

# Okabe-Ito: told apart by colour-blind readers; the marker says the same again.
STYLES = {
    "none": ("#0072B2", "o", "nothing: any baseline cancels"),
    "state": ("#009E73", "s", "the prefix"),
    "group": ("#E69F00", "D", "its prompt's group"),
    "batch": ("#CC79A7", "^", "the whole batch"),
    "action": ("#56B4E9", "v", "the token itself"),
    "future": ("#D55E00", "P", "what comes after the token"),
    None: ("#777777", "X", "not declared"),
}


def draw(
    summaries: list[Summary],
    clouds: Mapping[str, list[tuple[float, float]]],
    path: Path,
    title: str,
    subtitle: str = "",
) -> None:
    """Writes the picture (PNG, 200 dpi, and the same as PDF beside it).

    clouds: by strategy, (noise relative to the yardstick, relative bias) in each world, drawn as faint dots.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    settings = {
        "font.size": 9.5,
        "font.family": "DejaVu Sans",
        "axes.linewidth": 0.8,
        "axes.edgecolor": "#444444",
        "xtick.color": "#444444",
        "ytick.color": "#444444",
        "pdf.fonttype": 42,
    }
    shown = [s for s in summaries if math.isfinite(s.bias) and math.isfinite(s.noise)]
    unbiased = [s for s in shown if s.bias <= ROUNDING_BIAS or s.measured == "within error"]
    biased = [s for s in shown if s not in unbiased]
    with plt.rc_context(settings):
        figure, (above, below) = plt.subplots(
            2, 1, sharex=True, figsize=(7.4, 6.0), height_ratios=[4.2, 1.3], gridspec_kw={"hspace": 0.06}
        )
        for axes in (above, below):
            axes.set_xscale("log", base=2)
            axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        above.spines["bottom"].set_visible(False)
        above.tick_params(axis="x", which="both", length=0)
        above.set_yscale("log")
        low = min((max(s.bias, 1e-4) for s in biased), default=0.01)
        high = max((s.bias for s in biased), default=1.0)
        above.set_ylim(low / 4, max(high * 1.8, 1.0))
        above.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        above.yaxis.set_minor_formatter(NullFormatter())
        below.set_ylim(0, 1)
        below.set_yticks([0.5], ["0"])
        below.set_facecolor("#f3f8f5")
        noises = [s.noise for s in shown] or [1.0]
        noises += [noise for s in shown for noise, _ in clouds.get(s.label, [])]
        left, right = min(noises) / 1.1, max(noises) * 1.15
        below.set_xlim(left, right)
        ladder = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4, 6, 8, 16, 32)
        ticks = [t for t in ladder if left < t < right]
        below.set_xticks(ticks, [f"{t:g}" for t in ticks])
        below.xaxis.set_minor_formatter(NullFormatter())
        for axes in (above, below):
            axes.axvline(1.0, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for summary in biased:
            cloud = [(noise, bias) for noise, bias in clouds.get(summary.label, []) if bias > ROUNDING_BIAS]
            for noise, bias in cloud:
                line = [[summary.noise, noise], [summary.bias, bias]]
                above.plot(*line, color=_colour(summary), alpha=0.13, linewidth=0.7, zorder=1.2)
                above.plot(noise, bias, ".", color=_colour(summary), alpha=0.35, markersize=4, zorder=1.5)
            _point(above, summary, summary.bias)
        for summary in unbiased:
            cloud = [noise for noise, _ in clouds.get(summary.label, [])]
            below.plot(cloud, [0.5] * len(cloud), ".", color=_colour(summary), alpha=0.25, markersize=4, zorder=1.5)
            _point(below, summary, 0.5)
        figure.subplots_adjust(left=0.115, right=0.975, top=0.815, bottom=0.1)
        figure.canvas.draw()
        kinds = [kind for kind in STYLES if any(s.weight_class == kind for s in shown)]
        figure.legend(
            handles=[_marker(plt, kind) for kind in kinds],
            title="A token's factor depends on",
            loc="upper left",
            bbox_to_anchor=(0.105, 0.905),
            ncols=3,
            fontsize=8.2,
            title_fontsize=8.2,
            frameon=False,
            alignment="left",
            columnspacing=1.4,
            handletextpad=0.3,
            borderpad=0.0,
        )
        _labels(figure, above, _merged(biased, [s.bias for s in biased], 0.03))
        _labels(figure, below, _merged(unbiased, [0.5] * len(unbiased), 0.0))
        above.set_ylabel("relative bias of the direction")
        below.set_xlabel("noise-to-signal ratio relative to leave-one-out (RLOO = 1)")
        note = "no bias: enumerated, up to rounding" + ("; hollow: sampled, none seen" if _any_hollow(shown) else "")
        below.text(0.008, 0.06, note, transform=below.transAxes, color="#3c6e57", fontsize=8.5, style="italic")
        figure.text(0.115, 0.955, title, fontsize=12.5, weight="bold", color="#222222")
        figure.text(0.115, 0.922, subtitle, fontsize=8.8, color="#555555")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)
        figure.savefig(path.with_suffix(".pdf"))
        plt.close(figure)


def _any_hollow(summaries: list[Summary]) -> bool:
    return any(summary.measured == "within error" for summary in summaries)


def _colour(summary: Summary) -> str:
    return STYLES.get(summary.weight_class, STYLES[None])[0]


def _marker(plt, kind):
    colour, marker, meaning = STYLES[kind]
    return plt.Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=meaning)


def _name(summary: Summary) -> str:
    return summary.label + (" (!)" if summary.verdict == "WRONG" else "")


def _point(axes, summary: Summary, height: float) -> None:
    """Filled where everything was enumerated, hollow where a sample had to do and saw nothing."""
    colour, marker, _ = STYLES.get(summary.weight_class, STYLES[None])
    hollow = summary.measured == "within error"
    style = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.6}
    style = style if hollow else {"markeredgecolor": "white", "markeredgewidth": 0.9}
    axes.plot(summary.noise, height, color=colour, marker=marker, markersize=8, zorder=3, **style)


def _merged(summaries: list[Summary], heights: list[float], near: float) -> list[tuple[str, float, float, str]]:
    """(label, x, y, colour): strategies of one kind at the same place share a label."""
    places: list[list[tuple[Summary, float]]] = []
    for summary, height in sorted(zip(summaries, heights, strict=True), key=lambda pair: pair[0].noise):
        for place in places:
            other, level = place[0]
            close = abs(math.log(summary.noise / other.noise)) < 0.012 and abs(math.log(height / level)) <= near
            if close and summary.weight_class == other.weight_class:
                place.append((summary, height))
                break
        else:
            places.append([(summary, height)])
    return [
        ("\n".join(_name(s) for s, _ in place), place[0][0].noise, place[0][1], _colour(place[0][0]))
        for place in places
    ]


def _labels(figure, axes, points: list[tuple[str, float, float, str]]) -> None:
    """Puts each label where it covers least: greedy over places round its point, in pixels."""
    renderer = figure.canvas.get_renderer()
    pixels = [axes.transData.transform((x, y)) for _, x, y, _ in points]
    frame = axes.get_window_extent(renderer)
    taken: list[tuple[float, float, float, float]] = []
    gap = 7 * figure.dpi / 72
    for (name, x, y, colour), (px, py) in sorted(zip(points, pixels, strict=True), key=lambda item: -item[1][1]):
        text = axes.text(x, y, name, fontsize=8.8, color=colour, zorder=5, linespacing=1.05)
        box = text.get_window_extent(renderer)
        width, height = box.width, box.height
        best, best_cost = None, math.inf
        for radius in (1.0, 1.7, 2.6):
            for angle in range(0, 360, 30):
                dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                cx = px + dx * (gap * radius + width / 2)
                cy = py + dy * (gap * radius + height / 2)
                rectangle = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                cost = sum(_overlap(rectangle, other) for other in taken) * 4
                cost += sum(_overlap(rectangle, (qx - 6, qy - 6, qx + 6, qy + 6)) for qx, qy in pixels) * 4
                cost += _outside(rectangle, frame) * 8 + 40 * (radius - 1) + 6 * abs(dy) + (4 if dx < 0 else 0)
                if cost < best_cost:
                    best, best_cost = rectangle, cost
        taken.append(best)
        left, bottom = axes.transData.inverted().transform(best[:2])
        text.set_position((left, bottom))
        text.set_verticalalignment("bottom")


def _overlap(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _outside(rectangle, frame) -> float:
    area = (rectangle[2] - rectangle[0]) * (rectangle[3] - rectangle[1])
    return area - _overlap(rectangle, (frame.x0, frame.y0, frame.x1, frame.y1))
