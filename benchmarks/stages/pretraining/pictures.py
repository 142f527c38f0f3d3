"""The pictures of benchmarks/stages/pretraining/report.py; narrow, so that they can be read on a phone."""

from __future__ import annotations

from pathlib import Path

import torch

from compare.statistics import mean_interval
from credit import weight
from lab.text_weight import factors

INK, GRID = "#222222", "#dddddd"
# Okabe-Ito: told apart by colour-blind readers.
COLOURS = {
    "token_mean": "#0072B2",
    "length_power 0.5": "#E69F00",
    "seq_mean": "#D55E00",
    "constant": "#009E73",
    "micro_mean": "#56B4E9",
}
OWN, OTHERS = 20, 7


def draw_weights(whole: dict, path: Path) -> None:
    """How much one text counts by what else is in its batch; what token mean learns by batch size, with what was seen."""
    figure, (top, bottom) = _panels(2)
    means = torch.arange(4, 61).tolist()
    for name, member, limit in (
        ("token_mean", weight.token_mean, None),
        ("length_power 0.5", weight.length_power, None),
        ("seq_mean", weight.seq_mean, None),
        ("constant", weight.constant, 96),
    ):
        factor = [float(factors(member, [OWN, *[mean] * OTHERS], limit)[0]) for mean in means]
        at_own = factor[means.index(OWN)]
        style = {"linestyle": "--" if name == "constant" else "-", "linewidth": 2.4}
        top.plot(means, [each / at_own for each in factor], color=COLOURS[name], label=name, **style)
    # Packed, the tokens of the batch are given and the number of texts is not.
    tokens = OWN * (1 + OTHERS)
    texts = [1 + (tokens - OWN) / mean for mean in means]
    top.plot(means, [1.0] * len(means), ":", color=COLOURS["token_mean"], linewidth=2.4, label="token_mean, packed")
    packed = [(1 + OTHERS) / count for count in texts]
    top.plot(means, packed, ":", color=COLOURS["constant"], linewidth=2.4, label="constant, packed")
    top.set_xlabel("length of the other texts (tokens)")
    top.set_ylabel("factor of a 20-token text\n(1: all have 20 tokens)")
    top.set_yscale("log")
    top.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    top.minorticks_off()
    top.set_title("What one text counts, by its company", loc="left", color=INK)
    top.legend(frameon=False, ncols=2, loc="lower center", fontsize=9)
    markers = {"stories": ("o", "#0072B2"), "passages": ("s", "#CC79A7")}
    for texts, (marker, colour) in markers.items():
        exact, training = whole["exact"][texts], {"stories": "stories_4800", "passages": "passages_2250"}[texts]
        sizes = [int(size) for size in exact["by_batch"]]
        share = [length / exact["mean_length"] for length in exact["by_batch"].values()]
        bottom.plot(sizes, share, color=colour, linewidth=1.8, label=f"{texts}: predicted")
        for arm, size in (("seq_mean", 1), ("micro_mean", 4), ("token_mean", 32), ("constant", 1500)):
            seen = mean_interval([whole["trainings"][training]["arms"][arm]["length"]])
            low, high = seen.value - seen.low, seen.high - seen.value
            bars = [[low / exact["mean_length"]], [high / exact["mean_length"]]]
            style = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 5, "markerfacecolor": "white"}
            label = {"label": f"{texts}: written, 10 seeds"} if size == 1 else {}
            bottom.errorbar([size], [seen.value / exact["mean_length"]], bars, **style, **label)
    bottom.axhline(1.0, color=INK, linestyle=":", linewidth=1)
    bottom.set_xscale("log", base=2)
    bottom.set_xticks([1, 4, 32, 256, 1500], ["1\n(seq_mean)", "4", "32", "256", "fixed\n(constant)"])
    bottom.minorticks_off()
    bottom.set_xlim(0.75, 2400)
    bottom.set_xlabel("texts that share a denominator")
    bottom.set_ylabel("length written / length of the data")
    bottom.set_title("What token mean learns, by batch size", loc="left", color=INK)
    bottom.legend(frameon=False, loc="lower right")
    _save(figure, path)


def draw_measured(whole: dict, path: Path) -> None:
    """Repetition at each tenth of the lengths, and how often the end was predicted against how often it came."""
    figure, (top, bottom) = _panels(2)
    for training, marker, name in (("stories_400", "o", "stories, 400 steps"), ("passages_2250", "s", "passages")):
        data = whole["trainings"][training]
        for arm, shift in (("token_mean", -0.12), ("seq_mean", 0.12)):
            means = [mean_interval([tenth]) for tenth in data["arms"][arm]["tenths"]]
            places = [tenth + 1 + shift for tenth in range(10)]
            bars = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
            style = {"color": COLOURS[arm], "fmt": marker + "-", "linewidth": 1, "markersize": 4, "capsize": 2}
            top.errorbar(places, [m.value for m in means], bars, label=f"{arm}, {name}", **style)
    top.axhline(0.0, color=INK, linestyle=":", linewidth=1)
    top.set_xticks(range(1, 11))
    top.set_xlabel("tenth of the lengths: shortest texts to longest")
    top.set_ylabel("repeated pairs, beyond real\ntexts of the same length")
    top.set_title("Repetition at equal length", loc="left", color=INK)
    top.legend(frameon=False, fontsize=8.5)
    data = whole["trainings"]["stories_4800"]
    labels = ["5-8", "9-12", "13-16", "17-24", "25-32", "33-48", "49-64"]
    for arm in ("constant", "token_mean", "micro_mean", "length_power 0.5", "seq_mean"):
        ends = data["arms"][arm]["ends"][1:8]
        means = [mean_interval([each]) for each in ends]
        bars = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
        style = {"color": COLOURS[arm], "fmt": "o", "markersize": 5, "capsize": 2}
        bottom.errorbar(range(len(ends)), [m.value for m in means], bars, label=arm, **style)
        bottom.plot(whole["exact"]["stories"]["ends"][arm][1:8], color=COLOURS[arm], linewidth=1.4)
    bottom.axhline(1.0, color=INK, linestyle=":", linewidth=1)
    bottom.set_xticks(range(len(labels)), labels)
    bottom.set_xlabel("position in the text (tokens)")
    bottom.set_ylabel("end of text:\npredicted / seen")
    bottom.set_title("Calibration of the end (lines: predicted by theory)", loc="left", color=INK)
    bottom.legend(frameon=False)
    _save(figure, path)


def _panels(count: int):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 10.5, "axes.titlesize": 11.5, "legend.fontsize": 9.5})
    figure, axes = plt.subplots(count, 1, figsize=(5.4, 3.9 * count), layout="constrained")
    for axis in axes:
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=140)
    plt.close(figure)
