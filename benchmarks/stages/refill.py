"""What `sampling.refill` costs and buys on the default task: completions, discarded ones included, until the reward of first draws
(mean of 5 steps) is at a threshold.

    python benchmarks/stages/refill.py --seeds 3 --out docs/results/stages/refill.json

Arms are paired by seed: without, with three rounds, and without at a batch as large as what three rounds sampled on average. Each
cell is `train_grpo.py` in a process of its own; cells that are finished are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent.parent
WINDOW, BATCH, GROUP = 5, 128, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--runs", type=Path, default=Path("runs/refill"))
    parser.add_argument("--out", type=Path, default=Path("runs/refill.json"))
    options = parser.parse_args()
    arms: dict[str, dict[str, int]] = {"plain": {}, "refill": {"sampling.refill": 3}}
    found = {name: [] for name in (*arms, "larger")}
    for seed in range(options.seeds):
        for name, settings in arms.items():
            found[name].append(cell(name, seed, settings, options))
    sampled = mean(one["completions_per_step"] for one in found["refill"])
    larger = {"trainer.per_device_train_batch_size": GROUP * round(sampled / GROUP)}
    found["larger"] = [cell("larger", seed, larger, options) for seed in range(options.seeds)]
    for name, cells in found.items():
        print(
            name,
            *(f"{one['completions_to_threshold']} in {one['steps_to_threshold']} steps" for one in cells),
            sep="\n  ",
        )
    told = {
        "command": f"python benchmarks/stages/refill.py --seeds {options.seeds} --steps {options.steps}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "threshold": options.threshold,
        "settings": {**arms, "larger": larger},
        "means": {name: means(cells) for name, cells in found.items()},
        "cells": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n")


def means(cells: list[dict]) -> dict[str, float | None]:
    """Over seeds; None where a seed has not reached the threshold."""
    return {key: None if None in (given := [one[key] for one in cells]) else mean(given) for key in cells[0]}


def cell(name: str, seed: int, settings: dict[str, int], options: argparse.Namespace) -> dict:
    folder = options.runs.resolve() / name / f"seed{seed}"
    if not (folder / "summary.json").is_file():
        print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
        given = [f"{key}={value}" for key, value in settings.items()]
        fixed = [f"trainer.max_steps={options.steps}", "record.every=0", "show=0", f"run_dir={folder}", "resume=true"]
        command = [sys.executable, "train_grpo.py", f"seed={seed}", *given, *fixed]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("reward") is not None]
    rewards = [row.get("sampling/reward_first", row["reward"]) for row in rows]
    batch = settings.get("trainer.per_device_train_batch_size", BATCH)
    sampled = [int(row.get("sampling/completions", batch)) for row in rows]
    reached = next(
        (i for i in range(WINDOW, len(rows) + 1) if mean(rewards[i - WINDOW : i]) >= options.threshold), None
    )
    return {
        "steps_to_threshold": reached,
        "completions_to_threshold": None if reached is None else sum(sampled[:reached]),
        "completions_per_step": mean(sampled),
        "last_reward_first": mean(rewards[-10:]),
        "eval_reward_after": summary["eval_reward_after"],
        "flat_first": mean(row.get("sampling/flat_first", row["frac_reward_zero_std"]) for row in rows),
        "flat": mean(row["frac_reward_zero_std"] for row in rows),
    }


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
