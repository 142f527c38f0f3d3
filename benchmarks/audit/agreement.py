"""Does the audit agree with enumeration, for every shipped strategy?

    python benchmarks/audit/agreement.py --out docs/results/audit/agreement.json

Each strategy of configs/credit/ in each world, with the largest group whose batches can be enumerated: the exact number, the audit's from
32 batches, its interval. Strategies that ask for a critic have the perfect one. About 3 minutes on one core.

    python benchmarks/audit/agreement.py --again opo --out docs/results/audit/agreement.json

One draw in each world says little of one strategy. --again adds to the file that is there: the angle of that strategy in many audits
of each world in which it has a bias, how often the interval ends too low or begins too high, and how skewed the part of its gradient
across the reference's is. Under a minute.

Shapes: S strategies, B batches of one audit, n of all, D parameters.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from kept import keep
from torch import Tensor

from configs.compose import config_choices, named_strategy
from lab.audit.bias import angle
from lab.audit.drawn import batch_gradients, drawn
from lab.audit.estimates import audit_of
from lab.audit.products import products_of
from lab.measure.declarations import EXACT_ONLY, enumerated, largest_enumeration
from lab.measure.estimate import rloo
from lab.measure.metrics import WORST_BIAS, nothing_learned

WORLDS = ("tiny", "tiny_turn", "levels", "quarry", "tiny:transformer", "tiny_turn:transformer", "levels:transformer")
METRICS = ("nsr", "norm", "cosine", "relative_bias", "length_push")
BATCHES = 32
AGAIN, AUDITS = (16, 32, 64, 128), 200  # batches of each of how many more audits
NO_BIAS = 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", metavar="STRATEGY")
    parser.add_argument("--out", type=Path, default=Path("runs/audit/agreement.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.again:
        found = json.loads(options.out.read_text(encoding="utf-8"))
        added = [row for world in WORLDS for row in again(world, options.again, options.seed)]
        others = [row for row in found.get("again", []) if row["strategy"] != options.again]
        about = {key: found.pop(key) for key in ("command", "commit", "versions")}
        keep(options.out, about["command"], found | {"again": others + added})
        return print("\n".join(map(str, added)))
    names = config_choices("credit")
    # Batches of its own for each audit: strategies that score the same ones are wrong together.
    audits = [(world, name) for world in WORLDS for name in names]
    rows = [row for i, each in enumerate(audits) for row in compared(*each, options.seed + i)]
    found = {
        "batches": BATCHES,
        "summary": summary(rows),
        "rows": rows,
    }
    keep(options.out, "python benchmarks/audit/agreement.py", found)
    print(table(found["summary"]))


def compared(world: str, name: str, seed: int) -> list[dict]:
    """One row for each metric that is defined; none where enumeration does not fit, and one that says so."""
    learner, strategy = enumerated(world), named_strategy(name)
    here = {"world": world, "strategy": name}
    try:
        exact = largest_enumeration(learner, strategy, budget=EXACT_ONLY)
    except ValueError as error:
        return [here | {"skipped": str(error)}]
    if exact is None:
        return [here | {"skipped": "more batches than can be enumerated"}]
    audit = audit_of(drawn(learner, {name: strategy}, BATCHES, exact.group_size, seed=seed)).strategies[name]
    known = {metric: exact[metric] for metric in METRICS if metric != "norm"} | {"norm": float(exact.mean_D.norm())}
    if nothing_learned(exact.metrics):
        known = {"norm": 0.0}
    rows = []
    for metric in METRICS:
        truth = known.get(metric, math.nan)
        if math.isnan(truth):
            continue
        bounds = audit[metric]
        if metric == "relative_bias" and truth >= WORST_BIAS:
            truth = math.inf
        slack = 1e-9 * (abs(truth) if math.isfinite(truth) else 1.0) + 1e-9
        record = bounds.record() | {"metric": metric, "group_size": exact.group_size}
        record["exact"] = truth if math.isfinite(truth) else None
        rows.append(here | record | {"holds": bounds.low - slack <= truth <= bounds.high + slack})
    return rows


def again(world: str, name: str, seed: int) -> list[dict]:
    """Many audits of the angle of one strategy, a row for each number of batches; none where it has no bias."""
    learner, strategy = enumerated(world), named_strategy(name)
    exact = largest_enumeration(learner, strategy, budget=EXACT_ONLY)
    if exact is None or not NO_BIAS < exact["relative_bias"] < WORST_BIAS:
        return []
    truth = exact["relative_bias"]
    number = AUDITS * max(AGAIN)
    own_nD, true_nD = (batch_gradients(learner, one, number, exact.group_size, seed=seed) for one in (strategy, rloo()))
    rows = []
    for batches in AGAIN:
        low, high, seen = 0, 0, 0
        for start in range(0, AUDITS * batches, batches):
            some = slice(start, start + batches)
            flat = torch.cat([own_nD[some], true_nD[some]])
            gram_SBSB = (flat @ flat.T).view(2, batches, 2, batches)
            found = angle(gram_SBSB, products_of(gram_SBSB), 0, 1).tangent
            low, high, seen = low + (found.high < truth), high + (found.low > truth), seen + (found.low > 0)
        here = {"world": world, "strategy": name, "exact": truth, "batches": batches, "audits": AUDITS}
        here |= {"holds": 1 - (low + high) / AUDITS, "ends_too_low": low / AUDITS, "begins_too_high": high / AUDITS}
        rows.append(here | {"bias_seen": seen / AUDITS, "skew": skewness(own_nD, true_nD, exact.mean_D)})
    return rows


def skewness(own_nD: Tensor, true_nD: Tensor, mean_D: Tensor) -> float:
    """Of what single batches have across the mean update, along its mean."""
    true_D = true_nD.mean(dim=0)
    scale = (mean_D @ true_D) / mean_D.square().sum()
    across_nD = true_nD - scale * own_nD
    along_n = across_nD @ (true_D - scale * mean_D)
    centred_n = along_n - along_n.mean()
    return float(centred_n.pow(3).mean() / centred_n.square().mean().pow(1.5))


def summary(rows: list[dict]) -> list[dict]:
    """In each world: how many strategies, and how many of their numbers lie in their intervals."""
    found = []
    for world in [*WORLDS, "all"]:
        of = [row for row in rows if world in (row["world"], "all")]
        there = [row for row in of if "skipped" not in row]
        entry = {"world": world, "strategies": len({row["strategy"] for row in there})}
        entry["skipped"] = len({(row["world"], row["strategy"]) for row in of if "skipped" in row})
        for metric in METRICS:
            mine = [row for row in there if row["metric"] == metric]
            entry[metric] = [sum(row["holds"] for row in mine), len(mine)]
        found.append(entry)
    return found


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = ["| world | strategies | " + " | ".join(f"`{metric}`" for metric in METRICS) + " |", "|---" * 7 + "|"]
    for row in rows:
        counts = " | ".join(f"{row[metric][0]} of {row[metric][1]}" for metric in METRICS)
        lines.append(f"| {row['world']} | {row['strategies']} | {counts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
