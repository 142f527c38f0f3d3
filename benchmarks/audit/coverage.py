"""How often do the audit's intervals hold the truth? Thousands of audits of worlds where it is known.

    python benchmarks/audit/coverage.py --out docs/results/audit/coverage.json

In each world, batches of 4 completions a prompt are drawn from the policy, and every 8, 16, 32 or 64 of them are one audit. Truth is
`lab.measure`, which enumerates every batch. Nominal: 95 %. "above" and "below": the interval lies above the truth, or below it, 2.5 %
each if its tails were even. About 10 minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import torch
from kept import keep

from configs.compose import named_strategy
from lab.audit.drawn import LENGTH, batch_gradients, collect, length_gradients
from lab.audit.estimates import audit_of
from lab.exact.quantities import Exact
from lab.measure.declarations import enumerated
from lab.measure.estimate import measure

WORLDS = ("two_turn", "tiny_turn:transformer", "poison:transformer", "levels", "filler", "coin")
STRATEGIES = ("rloo", "seq_norm", "opo_loo", "decomposition")
BATCHES = (8, 16, 32, 64)
METRICS = ("nsr", "norm", "cosine", "relative_bias", "length_push", "noise_ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=400, help="of each world and number of batches")
    parser.add_argument("--out", type=Path, default=Path("runs/audit/coverage.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = [cell for world in WORLDS for cell in of_world(world, options.audits)]
    found = {
        "audits": options.audits,
        "summary": summary(cells),
        "cells": cells,
    }
    keep(options.out, "python benchmarks/audit/coverage.py", found)
    print(table(found["summary"]))


def truth_of(learner: Exact, name: str) -> dict[str, float]:
    """The metrics by enumeration; infinite noise where there is no signal."""
    found = measure(learner, named_strategy(name))
    known = {"nsr": found["nsr"], "norm": float(found.mean_D.norm())}
    if learner.tree.world.vanishing:
        return {"nsr": math.inf, "norm": 0.0}
    known |= {"cosine": min(round(found["cosine"], 12), 1.0), "relative_bias": round(found["relative_bias"], 12)}
    return known | ({"length_push": found["length_push"]} if float(learner.length_gradient.norm()) > 1e-9 else {})


def of_world(world: str, audits: int) -> list[dict]:
    """One cell for each number of batches, strategy and metric."""
    learner, number = enumerated(world), audits * max(BATCHES)
    gradients = {name: batch_gradients(learner, named_strategy(name), number) for name in STRATEGIES}
    gradients[LENGTH] = length_gradients(learner, number)
    truth = {name: truth_of(learner, name) for name in STRATEGIES}
    if not learner.tree.world.vanishing:
        for name in STRATEGIES[1:]:
            truth[name]["noise_ratio"] = truth[STRATEGIES[0]]["nsr"] / truth[name]["nsr"]
    cells = []
    for batches in BATCHES:
        seen: dict[tuple[str, str], list] = {(name, metric): [] for name in STRATEGIES for metric in truth[name]}
        for start in range(0, audits * batches, batches):
            part = {name: each[start : start + batches] for name, each in gradients.items()}
            audit = audit_of(collect(part, learner.prompts * 4, 4))
            for name, metric in seen:
                pair = metric == "noise_ratio"
                bounds = audit.pairs["rloo", name].noise_ratio if pair else audit.strategies[name][metric]
                seen[name, metric].append(bounds)
        for (name, metric), intervals in seen.items():
            cells.append({"world": world, "batches": batches, "strategy": name, "metric": metric})
            cells[-1] |= counted(intervals, truth[name][metric])
        print(world, batches, flush=True)
    return cells


def counted(intervals: list, truth: float) -> dict:
    """Shares of intervals in per cent, and their median width over the truth where both ends are there."""
    number = len(intervals)
    closed = [each.high - each.low for each in intervals if math.isfinite(each.high) and math.isfinite(each.low)]
    # A truth that is 0 or 1 up to rounding is met by an interval that ends there.
    slack = 1e-9 * (abs(truth) if math.isfinite(truth) else 1.0) + 1e-12
    above = sum(each.low > truth + slack for each in intervals)
    below = sum(each.high < truth - slack for each in intervals)
    return {
        "truth": truth if math.isfinite(truth) else None,
        "holds": 100 * (number - above - below) / number,
        "above": 100 * above / number,
        "below": 100 * below / number,
        "open": 100 * (number - len(closed)) / number,
        "width": statistics.median(closed) if closed else None,
        "audits": number,
    }


def summary(cells: list[dict]) -> list[dict]:
    """Mean and worst coverage over worlds and strategies, of each metric and number of batches; worlds with a signal."""
    found = []
    for metric in METRICS:
        for batches in BATCHES:
            of = [c for c in cells if c["metric"] == metric and c["batches"] == batches and c["world"] != "coin"]
            worst = min(of, key=lambda cell: cell["holds"])
            found.append(
                {
                    "metric": metric,
                    "batches": batches,
                    "holds": statistics.mean(cell["holds"] for cell in of),
                    "worst": worst["holds"],
                    "where": f"{worst['strategy']} in {worst['world']}",
                    "above": statistics.mean(cell["above"] for cell in of),
                    "below": statistics.mean(cell["below"] for cell in of),
                    "open": statistics.mean(cell["open"] for cell in of),
                    "cells": len(of),
                }
            )
    return found


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = ["| interval of | " + " | ".join(f"{batches} batches" for batches in BATCHES) + " |"]
    lines.append("|---" * (len(BATCHES) + 1) + "|")
    for metric in METRICS:
        of = [row for row in rows if row["metric"] == metric]
        lines.append(
            f"| `{metric}` | "
            + " | ".join(f"{row['holds']:.1f} ({row['worst']:.1f}; {row['open']:.1f})" for row in of)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
