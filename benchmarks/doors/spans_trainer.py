"""Credit from spans against broadcast, in training: completions until a reward, paired over seeds.

    python benchmarks/doors/spans_trainer.py doors --seeds 10 --target 0.9
    python benchmarks/doors/spans_trainer.py chain --seeds 10 --steps 60 --target 2      # no target: whole curves
    python benchmarks/doors/spans_trainer.py chain --seeds 10 --steps 60 --target 0.8    # the same runs, another report

Each run is a process `train_grpo.py`; one that has reached the target is stopped. Both arms have the same seeds, model,
constant weight and leave-one-out baseline, so that only the spread differs. Results so far are kept in --out, and a
second call goes on from there; a run that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from until import ROOT, SMOOTH, reached, train_until

sys.path.insert(0, str(ROOT))

from paired import Arm, Gap, Ratio, draw, gap, ratio, write_json

ARMS = {
    "spans": ["credit=spans"],
    "broadcast": ["credit=dr_grpo", "credit/baseline=leave_one_out"],
}
TASKS = {"doors": ["experiment=doors"], "chain": []}
BATCH = {"doors": 16, "chain": 128}


def main() -> None:
    options = _options()
    done = json.loads(options.out.read_text()) if options.out.is_file() else []
    for seed in range(options.seeds):
        for arm in ARMS:
            if any(run["seed"] == seed and run["arm"] == arm for run in done):
                continue
            done.append({"seed": seed, "arm": arm, **train(options, arm, seed)})
            options.out.write_text(json.dumps(done))
            print(f"seed {seed}  {arm:<10} {_line(done[-1])}", flush=True)
    report([run for run in done if run["seed"] < options.seeds], options)


def train(options: argparse.Namespace, arm: str, seed: int) -> dict:
    """One run; stopped when the smoothed reward has reached the target."""
    overrides = [*TASKS[options.task], *ARMS[arm], f"seed={seed}", *options.override]
    rows = train_until(overrides, options.steps, options.target)
    names = [key for key in rows[0] if key == "reward" or (key.startswith("rewards/") and key.endswith("/mean"))]
    return {"curves": {name: [round(row[name], 4) for row in rows] for name in names}}


def report(runs: list[dict], options: argparse.Namespace) -> None:
    """Completions to the target per arm and their paired ratio; paired differences of the rewards."""
    seeds = sorted({run["seed"] for run in runs})
    pairs = [{run["arm"]: run for run in runs if run["seed"] == seed} for seed in seeds]
    pairs = [pair for pair in pairs if len(pair) == len(ARMS)]
    if not pairs:
        return
    print(f"\n{options.task}, {len(pairs)} paired seeds, at most {options.steps} steps, target {options.target}")
    batch = BATCH[options.task]
    arms = {}
    for arm in ARMS:
        curves = [pair[arm]["curves"]["reward"] for pair in pairs]
        steps = [reached(curve, options.target) for curve in curves]
        counts = [None if step is None else (step + 1) * batch for step in steps]
        arms[arm] = Arm(counts, curves, options.steps * batch)
        print(f"  {arm:<10} {arms[arm].line()}")
    table: dict[str, Ratio | Gap] = {"completions, spans / broadcast": ratio(arms["spans"], arms["broadcast"])}
    for name in pairs[0]["spans"]["curves"]:
        both = [[pair[arm]["curves"][name] for pair in pairs] for arm in ARMS]
        steps = [min(len(a), len(b)) for a, b in zip(*both, strict=True)]
        for what, first in (("mean of all steps", 0), (f"mean of the last {SMOOTH} steps", -SMOOTH)):
            means = [[statistics.fmean(c[:n][first:]) for c, n in zip(curves, steps, strict=True)] for curves in both]
            table[f"{name}, {what}, spans - broadcast"] = gap(*means)
    for name, value in table.items():
        print(f"  {name}: {value.line()}")
    if options.picture:
        settings = {"task": options.task, "steps": options.steps, "target": options.target, "completions a step": batch}
        write_json(options.picture.with_suffix(".json"), arms, table, {"settings": settings})
        title = f"{options.task}: reward, mean of {len(pairs)} seeds"
        draw(options.picture.with_suffix(".png"), arms, title, batch, SMOOTH, options.target)


def _line(run: dict) -> str:
    rewards = run["curves"]["reward"]
    return f"steps {len(rewards)}, last reward {statistics.fmean(rewards[-SMOOTH:]):.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--out", type=Path, default=Path("spans_training.json"))
    parser.add_argument("--picture", type=Path, help="also write PICTURE.json and PICTURE.png")
    parser.add_argument(
        "--override", action="append", default=[], help="more overrides of train_grpo.py, for both arms"
    )
    return parser.parse_args()


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
