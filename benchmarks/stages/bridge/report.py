"""Tables and pictures of benchmarks/stages/bridge/world.py and stories.py.

    PYTHONPATH=. python benchmarks/stages/bridge/report.py --runs runs/stages --out docs/results/bridge

Reads RUNS/bridge_world.json and bridge_stories.json; writes both, and the pictures bridge_world.png and bridge_stories.png, to OUT;
prints the tables of docs/token_or_sequence.md. Means with Student's 95 % intervals over seeds, differences paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from compare.statistics import mean_interval, paired_difference

INK, GRID = "#222222", "#dddddd"
# Okabe-Ito: told apart by colour-blind readers.
COLOURS = {"dr_grpo": "#0072B2", "dr_grpo, seq_mean": "#56B4E9", "seq_norm": "#E69F00"}
LINES = {"token temperature": "#D55E00", "SMC, 16": "#CC79A7", "SMC, 64": "#009E73"}
WAYS = {
    "start": "the start itself",
    "token": "token temperature",
    "mh": "`mh`, 32 steps",
    "smc": "`smc`, 64 particles",
    "lhts": "`train_lhts.py`",
    "dr_grpo, KL in the loss": "`dr_grpo`, TRL's KL term",
    "seq_norm": "`seq_norm`, `kl_in_reward`",
    "dr_grpo": "`dr_grpo`, `kl_in_reward`",
}
TRLS = ", TRL's KL term"
COSTS = {"distance": 2, "log p": 1, "length": 1, "tokens per text": 0, "training tokens": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    world, stories = (
        json.loads((options.runs / f"bridge_{name}.json").read_text(encoding="utf-8")) for name in ("world", "stories")
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, data in (("world", with_differences(world)), ("stories", columns(stories))):
        text = json.dumps(data, separators=(",", ":"))
        (options.out / f"bridge_{name}.json").write_text(text + "\n", encoding="utf-8")
    draw_world(world, options.out / "bridge_world.png")
    draw_stories(stories, options.out / "bridge_stories.png")
    print("\n\n".join([limits_table(world), runs_table(world), stories_table(stories)]))


def with_differences(world: dict) -> dict:
    """Each resting place with how much farther away than that of `dr_grpo` it is, world by world."""
    rows = []
    for row in world["limits"]:
        gaps = [a - b for a, b in zip(row["KL to the target"], base_of(world, row)["KL to the target"], strict=True)]
        rows.append(row if row["strategy"] == "dr_grpo" else {**row, "minus that of dr_grpo": gaps})
    return rounded({**world, "limits": rows})


def base_of(world: dict, row: dict) -> dict:
    """The row of `dr_grpo` beside this one."""
    return next(r for r in world["limits"] if (r["policy"], r["KL term"]) == (row["policy"], row["KL term"]))


def columns(stories: list[dict]) -> dict:
    """One number a seed for each way and measure, and distances less that of `dr_grpo` with the penalty in the reward."""
    found: dict = {"ways": {}, "minus dr_grpo": {}, "texts of SMC that alignment costs": costs(stories)}
    found["the same by processor time"] = costs(stories, "training seconds", "seconds per text")
    for way in WAYS:
        rows = of_way(stories, way)
        keys = [key for key, value in rows[0].items() if isinstance(value, (int, float))] if rows else []
        found["ways"][way] = {key: [row[key] for row in rows] for key in keys}
        both = shared(stories, way)
        if rows and way != "dr_grpo" and both[0]:
            found["minus dr_grpo"][way] = [a - b for a, b in zip(*both, strict=True)]
    return rounded(found)


def shared(stories: list[dict], way: str) -> tuple[list[float], list[float]]:
    """Distances of a way and of `dr_grpo`, on the seeds that both have."""
    of = {row["seed"]: row["distance"] for row in of_way(stories, way) if row["distance"] is not None}
    base = {row["seed"]: row["distance"] for row in of_way(stories, "dr_grpo")}
    both = sorted(of.keys() & base.keys())
    return [of[seed] for seed in both], [base[seed] for seed in both]


def costs(stories: list[dict], training: str = "training tokens", text: str = "tokens per text") -> list[float]:
    """How many texts of SMC cost as much as training, beyond what a text of the trained model costs."""
    smc = {row["seed"]: row[text] for row in of_way(stories, "smc")}
    return [row[training] / (smc[row["seed"]] - row[text]) for row in of_way(stories, "dr_grpo")]


def rounded(node):
    """Numbers to six digits."""
    if isinstance(node, float):
        return float(f"{node:.6g}")
    if isinstance(node, list):
        return [rounded(each) for each in node]
    return {key: rounded(value) for key, value in node.items()} if isinstance(node, dict) else node


def interval(values: list[float], digits: int) -> str:
    mean = mean_interval([values])
    return f"{mean.value:,.{digits}f} [{mean.low:,.{digits}f}, {mean.high:,.{digits}f}]"


def difference(values: list[float], others: list[float], digits: int) -> str:
    gap = paired_difference([values], [others])
    return f"{gap.value:+.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]"


def limits_table(world: dict) -> str:
    """Where the expected update rests."""
    lines = [
        "| policy | KL term | credit | distance | KL to the target | minus that of `dr_grpo` | length, minus the target's |"
    ]
    lines.append("|" + "---|" * 7)
    for row in world["limits"]:
        base = base_of(world, row)
        gap = "" if base is row else difference(row["KL to the target"], base["KL to the target"], 4)
        values = [interval(row["distance"], 4), interval(row["KL to the target"], 4), gap]
        values.append(interval(row["length minus target's"], 3))
        where = {"reward": "in the reward", "loss": "TRL's, in the loss"}[row["KL term"]]
        lines.append(f"| {row['policy']} | {where} | {_named(row['strategy'])} | {' | '.join(values)} |")
    return "\n".join([*lines, "", *_worse(world)])


def _worse(world: dict) -> list[str]:
    """In how many worlds sequence means rest farther from the target than unbiased credit."""
    found = {(r["policy"], r["KL term"], r["strategy"]): r["KL to the target"] for r in world["limits"]}
    lines = []
    for policy, place, credit in found:
        base = found[policy, place, "dr_grpo"]
        if credit == "dr_grpo, seq_mean" and (policy, place) != ("any", "reward"):
            worse = [one > other for one, other in zip(found[policy, place, credit], base, strict=True)]
            lines.append(f"{policy}, {place}: {credit} rests farther away in {sum(worse)} of {len(worse)} worlds")
    return lines


def runs_table(world: dict) -> str:
    """What samples reach, and what samplers do on the same worlds."""
    lines = ["| | distance | tokens drawn per text |", "|---|---|---|"]
    for name, run in world["runs"].items():
        credit, place = name.split(" | ")
        where = f"{_named(credit)}{'' if place == 'reward' else TRLS}, after {run['texts'][-1]:,} texts"
        lines.append(f"| {where} | {interval(run['distance'][-1], 4)} | as plain sampling |")
    for row in world["samplers"]:
        lines.append(f"| {row['sampler']} | {interval(row['distance'], 4)} | {interval(row['tokens per text'], 1)} |")
    return "\n".join(lines)


def stories_table(stories: list[dict]) -> str:
    lines = ["| | " + " | ".join(COSTS) + " |", "|" + "---|" * (len(COSTS) + 1)]
    for way, name in WAYS.items():
        rows = of_way(stories, way)
        if len(rows) > 1:
            cells = [
                interval([row[key] for row in rows], digits) if rows[0][key] not in (None, 0) else ""
                for key, digits in COSTS.items()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    for way in ("seq_norm", "dr_grpo, KL in the loss", "lhts", "token"):
        mine, base = shared(stories, way)
        if len(mine) > 1:
            lines.append(f"\n{WAYS[way]} minus dr_grpo: {difference(mine, base, 2)} ({len(mine)} seeds)")
    return "\n".join([*lines, f"\nAligning costs the tokens of {interval(costs(stories), 0)} texts of SMC."])


def of_way(stories: list[dict], way: str) -> list[dict]:
    return sorted((row for row in stories if row["way"] == way), key=lambda row: row["seed"])


def _named(strategy: str) -> str:
    return ", ".join(f"`{part}`" for part in strategy.split(", "))


def draw_world(world: dict, path: Path) -> None:
    """Distance over training, with the expected update's resting places and the samplers as lines."""
    figure, axes = panels(2, 8.6)
    for axis, place, title in zip(
        axes, ("reward", "loss"), ("KL penalty in the reward", "TRL's KL term in the loss"), strict=True
    ):
        for credit, colour in COLOURS.items():
            run = world["runs"][f"{credit} | {place}"]
            means = [mean_interval([values]) for values in run["distance"]]
            texts = [count / 1000 for count in run["texts"]]
            axis.plot(texts, [m.value for m in means], color=colour, linewidth=1.8, label=credit)
            axis.fill_between(
                texts, [max(m.low, 1e-4) for m in means], [m.high for m in means], color=colour, alpha=0.15, linewidth=0
            )
            rest = next(
                r for r in world["limits"] if (r["policy"], r["KL term"], r["strategy"]) == ("any", place, credit)
            )
            level = mean_interval([rest["distance"]]).value
            if level > 1e-4:
                axis.axhline(level, color=colour, linestyle=":", linewidth=1.2)
        for name, colour in LINES.items():
            level = mean_interval([next(r for r in world["samplers"] if r["sampler"] == name)["distance"]]).value
            axis.axhline(level, color=colour, linestyle="--", linewidth=1.0)
            axis.text(texts[-1], level * 1.08, name, color=colour, ha="right", va="bottom", fontsize=8)
        axis.set(
            yscale="log",
            ylim=(4e-4, 0.5),
            xlabel="thousand texts drawn in training",
            ylabel="total variation to $p^\\alpha/Z$",
        )
        axis.set_title(title, loc="left", fontsize=10, color=INK)
    axes[0].legend(frameon=False, fontsize=9, loc="lower left")
    figure.savefig(path, dpi=140)


def draw_stories(stories: list[dict], path: Path) -> None:
    """Where each way ends, likelihood against entropy; and training by tokens."""
    figure, (top, bottom) = panels(2, 8.6)
    marks = dict(zip(WAYS, ("o", "o", "^", "s", "D", "v", "P", "*"), strict=True))
    colours = dict(
        zip(WAYS, ("#999999", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#0072B2"), strict=True)
    )
    for way, name in WAYS.items():
        rows = of_way(stories, way)
        if rows:
            style = {"marker": marks[way], "color": colours[way], "markeredgecolor": INK, "markeredgewidth": 0.4}
            shown = name.replace("`", "")
            top.plot(
                [r["length"] for r in rows],
                [r["log p"] for r in rows],
                linestyle="",
                label=shown,
                markersize=6,
                **style,
            )
    top.set(xlabel="tokens of a text", ylabel="mean log p of a text (nats)")
    top.set_title("What each way writes, one mark a seed", loc="left", fontsize=10, color=INK)
    top.legend(frameon=False, fontsize=8, loc="lower left")
    for way in ("dr_grpo, KL in the loss", "seq_norm", "dr_grpo"):
        rows = of_way(stories, way)
        if not rows:
            continue
        curves = [row["log p by step"] for row in rows]
        means = [mean_interval([list(values)]) if len(values) > 1 else None for values in zip(*curves, strict=True)]
        if means[0] is None:
            continue
        steps = [64 * (step + 1) for step in range(len(means))]
        bottom.plot(
            steps, [m.value for m in means], color=colours[way], linewidth=1.8, label=WAYS[way].replace("`", "")
        )
        bottom.fill_between(
            steps, [m.low for m in means], [m.high for m in means], color=colours[way], alpha=0.2, linewidth=0
        )
    for way, style in (("smc", "--"), ("token", ":")):
        rows = of_way(stories, way)
        level = sum(row["log p"] for row in rows) / len(rows)
        bottom.axhline(level, color=colours[way], linestyle=style, linewidth=1.2, label=WAYS[way].replace("`", ""))
    bottom.set(xlabel="texts drawn in training", ylabel="mean log p of the batch (nats)")
    bottom.set_title("GRPO with the model's own likelihood", loc="left", fontsize=10, color=INK)
    bottom.legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(path, dpi=140)


def panels(count: int, height: float):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(count, 1, figsize=(5.4, height), layout="constrained")
    for axis in axes:
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
