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
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch
from directions import measured, table

from lab.measure.estimate import Budget

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/credit"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = {"group": 4, "worlds": {name: measured(name, STRATEGIES, 4, BUDGET, "the outcome alone") for name in WORLDS}}
    (options.out / "reward_model.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(table(data["worlds"], STRATEGIES))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
