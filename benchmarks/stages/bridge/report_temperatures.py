"""Tables and picture of `python -m lab.equal_entropy` and benchmarks/stages/bridge/temperatures.py.

    PYTHONPATH=. python benchmarks/stages/bridge/report_temperatures.py --runs runs/stages --out docs/results/stages

Reads RUNS/equal_entropy_worlds.json and temperatures.json; writes both, and temperatures.png, to OUT; prints the tables of
docs/token_or_sequence.md. Means with Student's 95 % intervals over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from report import INK, difference, interval, panels, rounded

from compare.statistics import mean_interval
from lab.equal_entropy import markdown

TOKEN, SEQUENCE = "#D55E00", "#0072B2"
MEASURES = {"log p": 1, "entropy": 1, "length": 1, "repeated pairs": 3, "repeated pairs beyond length": 3, "ess": 3}
CHAIN = {"log p": 3, "length": 2, "repeated pairs": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    worlds, rows = (
        json.loads((options.runs / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("equal_entropy_worlds", "temperatures")
    )
    for name, data in (("equal_entropy_worlds", worlds), ("temperatures", columns(rows))):
        text = json.dumps(rounded(data), separators=(",", ":"))
        (options.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    draw(rows, options.out / "temperatures.png")
    print("\n\n".join([markdown(worlds), stories_table(rows), chain_table(rows)]))


def columns(rows: list[dict]) -> dict:
    """One number a seed for each model, way and temperature; on `chain` also sequence minus token."""
    found: dict = {"least entropy of token temperature, stories": least(rows)}
    for model, way in (("stories", "token"), ("stories", "sequence"), ("chain", "compared")):
        part = found.setdefault(model, {}).setdefault(way, {})
        for tau in taus(rows, model, way):
            here = of(rows, model, way, tau)
            part[f"{tau:g}"] = {key: [r[key] for r in here] for key, v in here[0].items() if isinstance(v, float)}
            if way == "compared":
                part[f"{tau:g}"] |= {
                    f"{key}, sequence minus token": [r[f"sequence {key}"] - r[f"token {key}"] for r in here]
                    for key in CHAIN
                }
    return found


def divergence(row: dict) -> float:
    """KL(token || p^alpha/Z) at one tau, from log Z = H + alpha E[log p] of sequence temperature."""
    log_z = row["sequence entropy"] + row["sequence log p"] / row["tau"]
    return log_z - row["same tau log p"] / row["tau"] - row["same tau entropy"]


def least(rows: list[dict]) -> list[float]:
    """Of all the token temperatures below 1, seed by seed."""
    return [
        min(row["entropy"] for row in rows if (row["way"], row["seed"]) == ("token", seed) and row["tau"] < 1)
        for seed in seeds(rows)
    ]


def of(rows: list[dict], model: str, way: str, tau: float) -> list[dict]:
    chosen = (row for row in rows if (row["model"], row["way"], row["tau"]) == (model, way, tau))
    return sorted(chosen, key=lambda row: row["seed"])


def taus(rows: list[dict], model: str, way: str) -> list[float]:
    return sorted({row["tau"] for row in rows if (row["model"], row["way"]) == (model, way)}, reverse=True)


def stories_table(rows: list[dict]) -> str:
    lines = [f"| stories | tau | {' | '.join(MEASURES)} |", "|" + "---|" * (2 + len(MEASURES))]
    for way in ("token", "sequence"):
        for tau in taus(rows, "stories", way):
            found = of(rows, "stories", way, tau)
            cells = [interval([row[key] for row in found], digits) for key, digits in MEASURES.items()]
            lines.append(f"| {way} temperature | {tau:g} | {' | '.join(cells)} |")
    least = [
        min(row["entropy"] for row in rows if (row["way"], row["seed"]) == ("token", seed)) for seed in seeds(rows)
    ]
    return "\n".join([*lines, "", f"least entropy of token temperature: {interval(least, 1)} ({len(least)} seeds)"])


def seeds(rows: list[dict]) -> list[int]:
    return sorted({row["seed"] for row in rows if row["model"] == "stories"})


def chain_table(rows: list[dict]) -> str:
    """Sequence temperature minus token temperature of the same entropy."""
    names = [
        "ESS share",
        "KL of token temperature",
        "token tau",
        *(f"{key}, sequence minus token" for key in CHAIN),
        "repeated pairs at equal lengths",
    ]
    lines = [f"| chain, tau | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for tau in taus(rows, "chain", "compared"):
        found = of(rows, "chain", "compared", tau)
        cells = [interval([row["ess"] for row in found], 2), interval([divergence(row) for row in found], 3)]
        cells += [interval([row["token tau"] for row in found], 2)]
        for key, digits in CHAIN.items():
            pairs = [[row[f"{way} {key}"] for row in found] for way in ("sequence", "token")]
            cells.append(difference(*pairs, digits))
        cells.append(interval([row["repeated pairs at equal lengths"] for row in found], 4))
        lines.append(f"| {tau:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict], path: Path) -> None:
    """Stories: likelihood against diversity along both curves; then length and repetition against tau."""
    figure, (first, second, third) = panels(3, 10.2)
    for way, colour in (("token", TOKEN), ("sequence", SEQUENCE)):
        curve = taus(rows, "stories", way)
        at = {tau: of(rows, "stories", way, tau) for tau in curve}
        if way == "sequence":  # both begin at the model itself
            at, curve = {1.0: of(rows, "stories", "token", 1.0), **at}, [1.0, *curve]
        means = {
            key: [mean_interval([[row[key] for row in at[tau]]]) for tau in curve]
            for key in ("entropy", "log p", "length", "repeated pairs")
        }
        style = {
            "color": colour,
            "marker": "o" if way == "token" else "s",
            "markersize": 4,
            "label": f"{way} temperature",
        }
        first.plot([m.value for m in means["entropy"]], [m.value for m in means["log p"]], **style)
        last = means["entropy"][0].value
        for place, tau in enumerate(curve[1:], start=1):
            spot = (means["entropy"][place].value, means["log p"][place].value)
            if abs(spot[0] - last) > 3:  # no number over another
                first.annotate(f"{tau:g}", spot, (6, 4), textcoords="offset points", fontsize=8, color=colour)
                last = spot[0]
        for axis, key in ((second, "length"), (third, "repeated pairs")):
            axis.plot(curve, [m.value for m in means[key]], **style)
            low, high = [m.low for m in means[key]], [m.high for m in means[key]]
            axis.fill_between(curve, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.set_xlabel("tau")
    first.set(xlabel="entropy of a text (nats): diversity", ylabel="mean log p of a text (nats): likelihood")
    first.set_title("Stories; along the curves: tau", loc="left", fontsize=10, color=INK)
    first.legend(frameon=False, fontsize=9, loc="upper right")
    second.set_ylabel("tokens of a text")
    third.set_ylabel("share of repeated pairs")
    first.margins(x=0.08)
    figure.savefig(path, dpi=140)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
