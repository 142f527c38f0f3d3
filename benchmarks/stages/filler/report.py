"""Table, picture and data of benchmarks/stages/filler/filler.py.

    python benchmarks/stages/filler/report.py --runs runs/stages --out docs/results/stages

Writes OUT/filler.json (one number a seed) and OUT/filler.png; prints the table of docs/token_or_sequence.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from compare.statistics import mean_interval

INK, GRID = "#222222", "#dddddd"
FLOOR = 1e-3  # gaps below it are drawn at it
COLOURS = {"right": "#0072B2", "wrong": "#D55E00", "seq_norm": "#D55E00", "group_zscore, constant": "#009E73"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    if not (options.runs / "filler.json").is_file():
        parser.error(f"{options.runs} has no filler.json; benchmarks/stages/filler/filler.py makes it.")
    options.out.mkdir(parents=True, exist_ok=True)
    raw = json.loads((options.runs / "filler.json").read_text())
    data = {"settings": raw["settings"], "runs": {name: condensed(both) for name, both in raw["runs"].items()}}
    (options.out / "filler.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    draw(data, options.out / "filler.png")
    print(table(data))


def condensed(both: dict) -> dict:
    """Of each way: start and end of the run, one number a seed, and the lengths along it, a list of seeds for each point."""
    found = {}
    for way, curves in both.items():
        ends = {}
        for word, place in (("start", 0), ("end", -1)):
            points = [curve[place] for curve in curves]
            ends[word] = {key: [round(point[key], 3) for point in points] for key in ("success", "right", "wrong")}
            ends[word]["gap"] = [round(point["wrong"] - point["right"], 4) for point in points]
        along = {
            key: [[round(curve[place][key], 2) for curve in curves] for place in range(len(curves[0]))]
            for key in ("right", "wrong")
        }
        found[way] = {**ends, "along": along}
    ends = {way: found[way]["end"] for way in found}
    found["seen minus predicted"] = {
        key: [round(a - b, 4) for a, b in zip(ends["seen"][key], ends["predicted"][key], strict=True)]
        for key in ("right", "wrong", "gap")
    }
    return found


def _shown(values: list[float], places: int = 2, sign: bool = False) -> str:
    mean = mean_interval([values])
    shown = [f"{each:{'+' if sign else ''}.{places}f}" for each in (mean.value, mean.low, mean.high)]
    return shown[0] if shown[0] == shown[1] == shown[2] else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def table(data: dict) -> str:
    lines = [
        "| policy, credit | right texts: predicted | seen | wrong texts: predicted | seen | wrong minus right: median, range | above 0 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in data["runs"].items():
        kind, _, credit = name.partition(", ")
        predicted, seen = run["predicted"]["end"], run["seen"]["end"]
        cells = [_shown(each) for key in ("right", "wrong") for each in (predicted[key], seen[key])]
        gaps = seen["gap"]
        middle, least, most = (round(each, 3) + 0.0 for each in (statistics.median(gaps), min(gaps), max(gaps)))
        cells.append(f"{middle:+.3f}, {least:+.3f} to {most:+.3f}")
        lines.append(f"| {kind}, `{credit}` | {' | '.join(cells)} | {sum(gap > 0 for gap in gaps)} of {len(gaps)} |")
    return "\n".join(lines)


def draw(data: dict, path: Path) -> None:
    """Above, lengths of right and wrong texts along the runs of the table; below, the gap that each decoder ends with."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 10.5, "axes.titlesize": 11.5, "legend.fontsize": 9.5})
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 7.8), layout="constrained")
    every = data["settings"]["every"]
    for credit, mark, line in (("seq_norm", "o", "-"), ("group_zscore, constant", "s", "--")):
        run = data["runs"][f"table, {credit}"]
        for key in ("right", "wrong"):
            steps = [every * place for place in range(len(run["seen"]["along"][key]))]
            style = {"color": COLOURS[key], "linewidth": 1.8}
            top.plot(steps, [sum(each) / len(each) for each in run["predicted"]["along"][key]], line, **style)
            _points(top, steps, run["seen"]["along"][key], COLOURS[key], mark, f"{key} texts, {credit}")
    top.set_title("Table: length under a reward that ignores it", loc="left", color=INK)
    top.set_ylabel("mean length (tokens)\nlines: predicted, points: seen")
    for credit, mark in (("seq_norm", "o"), ("group_zscore, constant", "s")):
        run = data["runs"][f"decoder, {credit}"]
        gaps = [[max(abs(gap), FLOOR) for gap in run[way]["end"]["gap"]] for way in ("predicted", "seen")]
        bottom.plot(*gaps, mark, color=COLOURS[credit], markerfacecolor="white", markersize=6, label=credit)
    bottom.plot([FLOOR, 24], [FLOOR, 24], ":", color=INK, linewidth=1)
    bottom.set_xscale("log")
    bottom.set_yscale("log")
    bottom.set_title("Decoder: wrong minus right, a point a seed", loc="left", color=INK)
    bottom.set_xlabel("predicted (tokens, either sign)")
    bottom.set_ylabel("seen (tokens, either sign)")
    top.set_xlabel("steps")
    for axis in (top, bottom):
        axis.legend(frameon=False)
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _points(axis, steps: list[int], values: list[list[float]], colour: str, mark: str, label: str) -> None:
    """Every second point, means over seeds with 95 % intervals."""
    means = [mean_interval([each]) for each in values][::2]
    bars = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
    style = {"color": colour, "fmt": mark, "markersize": 4, "capsize": 2, "linewidth": 1, "markerfacecolor": "white"}
    axis.errorbar(steps[::2], [m.value for m in means], bars, label=label, **style)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
