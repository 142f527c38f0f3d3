"""PRIME in the lab: with the policy in the place of its reward model, and with one that has learned the outcomes of 64 batches.

    python benchmarks/credit/reward_model.py

The relative bias of the direction, its standard error where it was sampled (0: counted), and the noise-to-signal ratio over that
of `rloo` with the same weights, which is `prime` without its second part. Groups of four, one for each prompt, tabular policies at
their start. The policy is one exact step and a little drift away from where it began; there the reward model begins, too, and
learns from 64 batches that the policy drew (lab/measure/memory.py). Prints the table of docs/credit/reward_model.md; writes JSON
to --out.
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
LEARNED = "prime credit/signals=reward_model credit.signals.reward_model.learning_rate="
STRATEGIES = {
    "the outcome alone": "rloo credit/weight=token_mean",
    "the policy itself": "prime",
    "learned, rate 0.01": f"{LEARNED}0.01",
    "learned, rate 0.1": f"{LEARNED}0.1",
    "learned, rate 0.1, beta 1": f"{LEARNED}0.1 credit.signals.reward_model.beta=1 credit.spread.beta=1",
}
BUDGET = Budget(groups=60_000, calls=1000, sampled_groups=8192, sampled_calls=768)


def measured(name: str) -> dict[str, dict]:
    """Bias and noise of each in one world."""
    start, found = exact(world(name)), {}
    for label, words in STRATEGIES.items():
        result = measure(start, named_strategy(words), 4, budget=BUDGET)
        error = result.errors.get("relative_bias", 0.0)
        found[label] = {"bias": result["relative_bias"], "error": error, "nsr": result["nsr"], "exact": result.exact}
        print(f"{name:<8} {label:<26} {found[label]}", flush=True)
    for entry in found.values():
        entry["noise"] = entry["nsr"] / found["the outcome alone"]["nsr"]
    return found


def table(data: dict) -> str:
    """Rows of the table of docs/credit/reward_model.md."""
    lines = []
    for label in STRATEGIES:
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
    data = {"group": 4, "worlds": {name: measured(name) for name in WORLDS}}
    (options.out / "reward_model.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(table(data))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
