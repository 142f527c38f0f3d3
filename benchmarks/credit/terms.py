"""What a term beside the credit does to the mean update and to its noise, in the lab's worlds.

    python benchmarks/credit/terms.py

`dr_grpo`, whose direction has no bias, alone and with each auxiliary at some coefficients: the relative bias of the direction of
the sum, its standard error where it was sampled (0: counted), and the noise-to-signal ratio over that of `dr_grpo` alone. Groups
of two, one for each prompt, tabular policies at their start. The teacher is the lab's (docs/credit/teachers.md): the policy,
given that the text does well. Prints the table of docs/credit/terms.md; writes JSON to --out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from configs.compose import named_strategy
from lab.exact.quantities import exact
from lab.exact.worlds import world
from lab.measure.estimate import Budget, measure

WORLDS = ("levels", "shares", "poison", "filler")
COEFFICIENTS = {"nll": (0.1, 1.0), "sdar": (0.01, 0.1, 1.0)}
BUDGET = Budget(groups=300_000, calls=20_000, sampled_groups=16_384, sampled_calls=4096)


def strategies() -> dict[str, str]:
    """What stands in the table -> what a command would say."""
    found = {"dr_grpo": "dr_grpo"}
    for name, coefficients in COEFFICIENTS.items():
        told = " credit/teacher=self" if name == "sdar" else ""
        for coefficient in coefficients:
            words = f"dr_grpo credit/auxiliary={name}{told} credit.auxiliary.coefficient={coefficient:g}"
            found[f"+ {name}, {coefficient:g}"] = words
    return found


def measured(name: str) -> dict[str, dict]:
    """Bias and noise of each sum in one world."""
    start, found = exact(world(name)), {}
    for label, words in strategies().items():
        result = measure(start, named_strategy(words), 2, budget=BUDGET)
        error = result.errors.get("relative_bias", 0.0)
        found[label] = {"bias": result["relative_bias"], "error": error, "nsr": result["nsr"], "exact": result.exact}
        print(f"{name:<8} {label:<12} {found[label]}", flush=True)
    for entry in found.values():
        entry["noise"] = entry["nsr"] / found["dr_grpo"]["nsr"]
    return found


def table(data: dict) -> str:
    """Rows of the table of docs/credit/terms.md."""
    lines = []
    for label in strategies():
        entries = [data["worlds"][name][label] for name in WORLDS]
        biases = [f"{entry['bias']:.3f}" if entry["bias"] >= 1e-9 else "0" for entry in entries]
        lines.append("| " + " | ".join([label, *biases, *(f"{entry['noise']:.2f}" for entry in entries)]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/credit"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = {"group": 2, "worlds": {name: measured(name) for name in WORLDS}}
    (options.out / "terms.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(table(data))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
