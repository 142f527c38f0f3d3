"""Bias and noise of credit by turns in the lab's worlds of several turns, as exact numbers and one figure.

    python benchmarks/agents/bias.py

Every strategy under the tabular policy of each world at its start, all texts enumerated: the relative bias of the direction
(`relative_bias` of lab/measure/metrics.py), and the noise-to-signal ratio over that of `rloo`, outcome-only credit without bias.
Groups of four, three and two, so that batches can be counted; `exact` in the JSON says whether it was, else the noise
is sampled. `turn_value` has the lab's perfect critic. Every other bias is computed a second time by the plain loops of loops.py,
`loops` in the JSON; the run stops where the two part. Prints a table; writes JSON and a picture to --out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch
from directions import measured, table
from loops import CREDITS, recounted

from lab.measure.estimate import Budget

GROUPS = {"quarry": 4, "search": 3, "chores": 2}
YARDSTICK = "rloo"
STRATEGIES = {
    "rloo": "rloo",
    "turns": "turns",
    "turn_value": "turn_value credit.spread.bootstrap=false",
    "turn_discount": "turn_discount",
    "gigpo, as coded": "gigpo credit/weight=constant",
    "gigpo, one count a row": "gigpo credit/weight=constant credit.spread.across_steps=false",
    "mt_grpo aae": "mt_grpo credit/weight=constant",
    "mt_grpo cae": "mt_grpo credit/weight=constant credit.spread.estimator=cae",
    "mt_grpo to_go": "mt_grpo credit/weight=constant credit.spread.estimator=to_go",
    "dr_grpo": "dr_grpo",
    "seq_norm": "seq_norm",
}
BUDGET = Budget(groups=300_000, calls=400, sampled_groups=4096, sampled_calls=64)
FLOOR = 1e-16
"""Biases below it are drawn at it."""
ROUNDING = 1e-9
"""The two computations may part by it."""


def confirm(data: dict) -> None:
    """Writes what the loops give beside every bias.

    Raises:
        SystemExit: a bias that they do not give.
    """
    for name, size in GROUPS.items():
        for label, bias in recounted(name, size, list(CREDITS)).items():
            entry = data["worlds"][name][label]
            entry["loops"] = bias
            if not abs(bias - entry["bias"]) < ROUNDING:
                raise SystemExit(f"{name}, {label}: the lab says {entry['bias']!r}, plain loops {bias!r}")


def draw(data: dict, out: Path) -> None:
    """Bias left, noise over `rloo` right; one row a strategy, one mark a world."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    from compare.report.drawing import COLOURS, GREY

    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.4), sharey=True, layout="constrained")
    for place, (name, marker) in enumerate(zip(GROUPS, "os^", strict=True)):
        entries = [data["worlds"][name][label] for label in STRATEGIES]
        rows = [row + 0.18 * (place - 1) for row in range(len(entries))]
        style = {"marker": marker, "linestyle": "", "color": COLOURS[place], "label": name}
        axes[0].plot([max(entry["bias"], FLOOR) for entry in entries], rows, **style)
        axes[1].plot([entry["noise"] for entry in entries], rows, **style)
    axes[0].axvline(1e-9, color=GREY, linewidth=0.8, linestyle="--")
    axes[1].axvline(1.0, color=GREY, linewidth=0.8, linestyle="--")
    axes[0].set(xscale="log", xlabel="relative bias of the direction (left of the line: rounding)")
    axes[0].set_xticks([1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1])
    axes[1].set(xscale="log", xlabel="noise-to-signal ratio over rloo")
    axes[1].set_xticks([0.25, 0.5, 1])
    axes[1].xaxis.set_major_formatter(ScalarFormatter())
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_yticks(range(len(STRATEGIES)), list(STRATEGIES))
    axes[0].invert_yaxis()
    axes[1].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.grid(axis="y", color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/agents"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = {
        "group": GROUPS,
        "worlds": {name: measured(name, STRATEGIES, size, BUDGET, YARDSTICK) for name, size in GROUPS.items()},
    }
    if not all(math.isfinite(entry["bias"]) for each in data["worlds"].values() for entry in each.values()):
        raise SystemExit("a bias is not finite: a strategy points backwards or nowhere in one of the worlds")
    confirm(data)
    (options.out / "bias.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    draw(data, options.out / "bias.png")
    print(table(data["worlds"], STRATEGIES))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
