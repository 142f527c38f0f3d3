"""Pictures of several audits side by side: noise and bias of each strategy, audit by audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from compare.report.drawing import COLOURS, GREY, MOST, STYLE, STYLES, wrapped
from compare.report.numbers import number
from lab.audit.over import Audits
from lab.audit.picture import labels_for, log_window
from lab.audit.reading import Found
from userio.visible import visible

_TANGENTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)  # relative biases that have a tick
_WIDER = 2.0  # an interval's end that is further off than so many times the largest angle stands outside the picture


def over_audits(audits: Audits) -> dict[str, tuple[Figure, str]]:
    """Name of a picture -> it, and what it shows; without those that there is no number for."""
    said = "Noise over signal" if audits.noise == "nsr" else "Critical batch"
    found = {
        "compare": (_noise(audits, said), f"{said} of each strategy, audit by audit"),
        "compare_bias": (_bias(audits), "Bias of each strategy, audit by audit"),
    }
    return {name: (figure, text) for name, (figure, text) in found.items() if figure is not None}


def _noise(audits: Audits, said: str) -> Figure | None:
    found = _numbers(audits, audits.names, audits.noise)
    window = log_window([one for each in found.values() for one in each])
    if window is None:
        return None

    def scale(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.set_ylim(*window)
        subs = (1.0, 2.0, 5.0) if window[1] / window[0] < 300 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=9))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())

    unit = said.lower() if audits.noise == "nsr" else f"{said.lower()} (completions)"
    return _drawn(audits, found, scale, window, f"{said}, audit by audit", unit)


def _bias(audits: Audits) -> Figure | None:
    """As the angle to the reference's update, so that a bias that nothing bounds has a place."""
    references = {reading.reference for reading in audits.readings.values()}
    names = [name for name in audits.names if name not in references]
    found = {name: [_angle(one) for one in each] for name, each in _numbers(audits, names, "relative_bias").items()}
    values = [one.value for each in found.values() for one in each if one.known]
    if not values:
        return None
    top = max(*values, 4.0)
    ends = [one.high for each in found.values() for one in each if one.high <= _WIDER * top]
    window = (-2.0, min(1.1 * max([top, *ends]), 94.0))

    def scale(axes: Axes) -> None:
        axes.set_ylim(*window)
        ticks = [tick for tick in _TANGENTS if math.degrees(math.atan(tick)) < window[1]]
        axes.set_yticks([math.degrees(math.atan(tick)) for tick in ticks], [f"{100 * tick:g}\u00a0%" for tick in ticks])

    return _drawn(audits, found, scale, window, "Bias against the reference, audit by audit", "bias")


def _numbers(audits: Audits, names: Sequence[str], measure: str) -> dict[str, list[Found]]:
    return {
        name: [reading.numbers.get(name, {}).get(measure, Found()) for reading in audits.readings.values()]
        for name in names
    }


def _angle(bias: Found) -> Found:
    return Found(*(math.degrees(math.atan(max(end, 0.0))) for end in (bias.value, bias.low, bias.high)))


def _drawn(
    audits: Audits,
    found: Mapping[str, Sequence[Found]],
    scale: Callable[[Axes], None],
    window: tuple[float, float],
    title: str,
    unit: str,
) -> Figure:
    """Up to eight strategies in one picture, more of them a panel each among the others in grey."""
    names, labels = list(found), labels_for(list(found))
    together = len(names) <= MOST
    with plt.rc_context(STYLE):
        rows = 1 if together else math.ceil(len(names) / 3)
        figure, grid = plt.subplots(rows, 1 if together else 3, figsize=(5.3, 4.0 if together else 1.2 + 1.5 * rows), sharex=True,
                                    sharey=True, squeeze=False, layout="constrained")  # fmt: skip
        for i, name in enumerate(names):
            axes = grid.flat[0 if together else i]
            if not together:
                for other in names:
                    _joined(axes, audits, [one.value for one in found[other]], color="#d5dade", linewidth=0.6, zorder=1)
                axes.set_title(_one_line(labels.whole[name]), loc="left", fontsize=8)
            hue = audits.names.index(name)  # the same in all pictures
            colour = COLOURS[hue % len(COLOURS)] if together else COLOURS[0]
            shift = min(0.06, 0.7 / len(names)) * (i - (len(names) - 1) / 2) if together else 0.0
            style = STYLES[hue % len(STYLES)] if together else "-"
            _line(axes, audits, found[name], colour, style, shift, window, labels.of[name])
        for axes in grid.flat:
            scale(axes)
            shown = ["\n".join(wrapped(visible(label), 14 if together else 6)) for label in audits.readings]
            axes.set_xticks(range(len(shown)), shown, fontsize=8 if together else 6.5)
            axes.set_xlim(-0.4, len(shown) - 0.6)
            for end in _ends(audits)[:-1]:
                axes.axvline(end - 0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
        for axes in list(grid.flat)[len(names) :] if not together else []:
            axes.set_visible(False)
        if together:
            figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5, handlelength=3)
        figure.supylabel(unit, fontsize=9.5)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def _ends(audits: Audits) -> list[int]:
    """Of each run, the place behind its last audit."""
    return np.cumsum([len(labels) for labels in audits.by_run]).tolist()


def _joined(axes: Axes, audits: Audits, values: Sequence[float], shift: float = 0.0, label: str = "", **style) -> None:
    """Values joined within each run: from one run to another nothing has moved."""
    start = 0
    for end in _ends(audits):
        axes.plot(np.arange(start, end) + shift, values[start:end], label=label if start == 0 else "_", **style)
        start = end


def _line(
    axes: Axes,
    audits: Audits,
    each: Sequence[Found],
    colour: str,
    style,
    shift: float,
    window: tuple[float, float],
    label: str,
) -> None:
    """Values joined; intervals as bars that end with the picture."""
    _joined(axes, audits, [one.value for one in each], shift, label.replace("\n", " "), color=colour, linestyle=style, linewidth=1.8,
            marker="o", markersize=4, zorder=3)  # fmt: skip
    for place, one in enumerate(each):
        if not math.isnan(one.low):
            axes.plot([place + shift] * 2, [max(one.low, window[0]), min(one.high, window[1])], color=colour if one.known else GREY,
                      linewidth=1.1, alpha=0.7, zorder=2)  # fmt: skip


def _one_line(text: str, most: int = 20) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
