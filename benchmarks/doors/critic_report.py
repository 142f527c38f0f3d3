"""Table and picture from the runs of benchmarks/doors/critic_decoder.py.

    python benchmarks/doors/critic_report.py --runs critic_decoder_runs --out docs/results/doors/value_doors

Each arm at its tuned learning rate; mean completions to 0.9 with a 95 % bootstrap interval, and the ratio to group_mean,
spans and the oracle (`own`) on the same seeds: geometric mean with a bootstrap interval over the seeds both arms have. A
run that did not arrive counts as all it drew (then the ratio is a bound) and is counted in the column `censored`. Writes
OUT.csv (arms), OUT_curves.csv (mean over seeds of reward and measures, per step) and OUT.png, prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from critic_decoder import ARMS
from decoder import DOORS, ROWS
from spans_tabular import bootstrap

TUNING = 1000  # seeds from here on
REFERENCES = ("group_mean", "spans", "own")
MEASURES = ("explained", "agreement", "off", "power")
COLOURS = [
    "C0",
    "C1",
    "C3",
    "C4",
    "C5",
    "C6",
    "C8",
    "C9",
    "navy",
    "goldenrod",
    "crimson",
    "teal",
    "orchid",
]  # green and gray are taken
STYLES = {"own": ("black", "--"), "spans": ("tab:green", "-"), "group_mean": ("tab:gray", "-")}


def load(folder: Path) -> dict[str, dict[int, dict]]:
    """Reported runs: arm -> seed -> run. An arm reported at more than one rate has its further rates in its name."""
    found = defaultdict(lambda: defaultdict(dict))
    for file in sorted(folder.glob("*.json")):
        each = json.loads(file.read_text())
        if each["seed"] < TUNING:
            found[each["arm"]][each["rate"]][each["seed"]] = each
    named = {}
    for arm in [arm for arm in ARMS if arm in found]:
        for number, (rate, runs) in enumerate(sorted(found[arm].items())):
            named[f"{arm} @ {rate:g}" if number else arm] = runs
    return named


def drawn(run: dict) -> int:
    return run["completions"] or len(run["reward"]) * ROWS


def ratio(arm: dict[int, dict], reference: dict[int, dict]) -> tuple[float, float, float]:
    logs = [math.log(drawn(arm[seed]) / drawn(reference[seed])) for seed in arm if seed in reference]
    low, high = bootstrap(logs)
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def row(name: str, arm: dict[int, dict], arms: dict) -> dict:
    counts = [float(drawn(run)) for run in arm.values()]
    low, high = bootstrap(counts)
    entry = {"arm": name, "rate": next(iter(arm.values()))["rate"], "seeds": len(arm)}
    entry |= {"censored": sum(run["completions"] is None for run in arm.values())}
    entry |= {"completions": statistics.fmean(counts), "low": low, "high": high}
    entry |= {"tokens": statistics.fmean(counts) * DOORS}
    entry |= {"each_seed": " ".join(str(arm[seed]["completions"] or "never") for seed in sorted(arm))}
    for other in REFERENCES:
        if other in arms:
            entry |= dict(
                zip((f"to_{other}", f"to_{other}_low", f"to_{other}_high"), ratio(arm, arms[other]), strict=True)
            )
    for i, measure in enumerate(MEASURES):
        # over the second half of each run: what the critic is worth once it has seen something
        late = [each[i] for run in arm.values() for each in run["measures"][len(run["measures"]) // 2 :]]
        late = [value for value in late if value is not None]
        entry[f"late_{measure}"] = statistics.median(late) if late else None
    return entry


def markdown(rows: list[dict]) -> str:
    lines = ["| arm | rate | completions to 0.9 | tokens | / group_mean | / spans | / own | V explained | power |"]
    lines.append("|" + "---|" * 9)
    for each in rows:
        note = f", {each['censored']} of {each['seeds']} never" if each["censored"] else ""
        at_least = ">= " if each["censored"] else ""
        seeds = "" if each["seeds"] == 10 else f" ({each['seeds']} seeds)"
        cells = [each["arm"] + seeds, f"{each['rate']:g}"]
        cells += [f"{at_least}{each['completions']:,.0f} [{each['low']:,.0f}, {each['high']:,.0f}]{note}"]
        cells += [f"{at_least}{each['tokens'] / 1000:,.0f} k"]
        for other in REFERENCES:
            keys = (f"to_{other}", f"to_{other}_low", f"to_{other}_high")
            cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*(each[key] for key in keys)) if keys[0] in each else "")
        explained = each["late_explained"]
        power = each["late_power"]
        cells += ["" if explained is None else f"{explained:.2f}", "" if power is None else f"{power:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_curve(arm: dict[int, dict], pick, average=statistics.fmean) -> list[float]:
    """Over seeds; a run that has arrived keeps its last value."""
    length = max(len(run["reward"]) for run in arm.values())
    series = [pick(run) for run in arm.values()]
    return [average(each[min(step, len(each) - 1)] for each in series) for step in range(length)]


def measured(run: dict, index: int) -> list[float]:
    """Means over 10 steps, so that the curve can be read."""
    raw = [each[index] for each in run["measures"]]
    return [statistics.fmean(raw[max(0, step - 9) : step + 1]) for step in range(len(raw))]


def picture(arms: dict[str, dict[int, dict]], file: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6))
    for number, (name, arm) in enumerate(arms.items()):
        colour, line = STYLES.get(name, (COLOURS[number % len(COLOURS)], ":" if " @ " in name else "-"))
        curve = mean_curve(arm, lambda run: run["reward"])
        left.plot([step * ROWS for step in range(len(curve))], curve, line, color=colour, label=name)
        if not all(run["measures"] for run in arm.values()):
            continue  # runs of benchmarks/doors/spans_decoder.py measure nothing but the reward
        if name == "group_zscore":
            continue  # of another scale
        power = mean_curve(arm, lambda run: measured(run, 3))
        right.plot([step * ROWS for step in range(len(power))], power, line, color=colour)
        if next(iter(arm.values()))["measures"][0][0] is not None:
            explained = mean_curve(arm, lambda run: measured(run, 0), statistics.median)
            middle.plot([step * ROWS for step in range(len(explained))], explained, line, color=colour)
    left.axhline(0.9, color="lightgray", zorder=0)
    left.set(xlabel="completions", ylabel="share of doors open", title="reward, mean over seeds")
    middle.set(xlabel="completions", ylim=(-1, 1.05), title="variance of the exact V(s_t) explained, median")
    right.set(xlabel="completions", yscale="log", title="E A² / E (true advantage)²")
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="lower center", ncols=7, frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("critic_decoder_runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/doors/value_doors"))
    options = parser.parse_args()
    arms = load(options.runs)
    rows = sorted((row(name, arm, arms) for name, arm in arms.items()), key=lambda each: each["completions"])
    columns = list(dict.fromkeys(key for each in rows for key in each))
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in each.items()} for each in rows)
    with options.out.with_name(options.out.name + "_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "completions", "reward"])
        for name, arm in arms.items():
            for step, reward in enumerate(mean_curve(arm, lambda run: run["reward"])):
                writer.writerow([name, step * ROWS, _short(reward)])
    picture(arms, options.out.with_suffix(".png"))
    print(markdown(rows))


def _short(value):
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
