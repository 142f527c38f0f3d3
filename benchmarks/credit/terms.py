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
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch
from directions import measured, table

from lab.measure.estimate import Budget

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/credit"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = {"group": 2, "worlds": {name: measured(name, strategies(), 2, BUDGET, "dr_grpo") for name in WORLDS}}
    (options.out / "terms.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(table(data["worlds"], strategies()))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
