"""Doors in train_grpo.py itself: completions to 0.9 for each credit strategy, paired over seeds.

    python benchmarks/doors/trainer.py --runs DIR [--seeds 10] [--jobs 2]      # goes on from what DIR holds
    python benchmarks/doors/trainer.py --runs DIR --only-report --report docs/results/doors/value_doors_trainer

Each run is a process `train_grpo.py experiment=doors ...`, stopped once the mean reward of ten steps is at the
target: a seed has the same key and initial weights in all arms. The learning rate of each arm is the best of --rates on the
tuning seeds, which are not reported; a run that does not arrive counts there with all it drew, and more the further it was
from the target.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from until import ROOT, SMOOTH, reached, train_until

sys.path.insert(0, str(ROOT))

from critic_decoder import cost
from decoder import DOORS, ROWS, TARGET
from paired import Arm, draw, ratio, write_json

GAE = "credit.spread.lambda_=0.95"
ARMS = {
    "own": ["--config-dir", "benchmarks/doors/oracle", "credit=own"],
    "spans": ["credit=spans"],
    "dr_grpo": ["credit=dr_grpo"],
    "seq_norm": ["credit=seq_norm"],
    "decomposition": ["credit=decomposition"],
    "decomposition .95": ["credit=decomposition", GAE],
    "value": ["credit=value"],
    "value .95": ["credit=value", GAE],
    "value, leave-one-out": ["credit=value", "credit/baseline=leave_one_out"],
    "ridge, leave-one-out": ["credit=value", "credit/critic=ridge", "credit/baseline=leave_one_out"],
    "separate, leave-one-out": [
        *("credit=value", "credit/critic=separate", "credit/baseline=leave_one_out"),
        "credit.critic.learning_rate=1e-3",
    ],
}
CRITIC = ("critic/explained_variance", "critic/noise_credit", "critic/noise_group")


def main() -> None:
    options = _options()
    options.runs.mkdir(parents=True, exist_ok=True)
    tuning = [(arm, rate, seed) for arm in options.arms for rate in options.rates for seed in options.tuning_seeds]
    if len(options.rates) > 1 and not options.only_report:
        make(tuning, options)
    best = {arm: best_rate(arm, options) for arm in options.arms}
    print("learning rates:", ", ".join(f"{arm} {rate:g}" for arm, rate in best.items()), flush=True)
    if not options.only_report:
        make([(arm, best[arm], seed) for seed in range(options.seeds) for arm in options.arms], options)
    report(best, options)


def make(cells: list[tuple[str, float, int]], options: argparse.Namespace) -> None:
    """Runs what is not there yet."""
    missing = [cell for cell in cells if not _file(*cell, options).is_file()]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(one, *cell, options) for cell in missing]:
            done.result()


def one(arm: str, rate: float, seed: int, options: argparse.Namespace) -> None:
    overrides = [*ARMS[arm], "experiment=doors", f"trainer.learning_rate={rate}"]
    overrides += [f"seed={seed}", f"task.seed={seed}", f"model.pretrain.seed={seed}"]
    rows = train_until(overrides, options.steps, TARGET)
    rewards = [round(row["reward"], 4) for row in rows]
    step = reached(rewards, TARGET)
    result = {"arm": arm, "rate": rate, "seed": seed, "longest": options.steps}
    result["completions"] = None if step is None else (step + 1) * ROWS
    result["reward"] = rewards if step is None else rewards[: step + 1]
    for name in CRITIC:
        if any(row.get(name) is not None for row in rows):
            result[name] = [row.get(name) for row in rows]
    _file(arm, rate, seed, options).write_text(json.dumps(result))
    last = statistics.fmean(result["reward"][-SMOOTH:])
    print(f"  {arm}, rate {rate:g}, seed {seed}: {result['completions']} completions, last {last:.3f}", flush=True)


def best_rate(arm: str, options: argparse.Namespace) -> float:
    """By --rate or the tuning runs; of an arm that has none, the rate it was run at."""
    tuned = [rate for rate in options.rates if _file(arm, rate, options.tuning_seeds[0], options).is_file()]
    if fixed := [each.partition("=")[2] for each in options.rate if each.partition("=")[0] == arm]:
        return float(fixed[0])
    if len(options.rates) == 1 or not tuned:
        return next((rate for rate in options.rates if _file(arm, rate, 0, options).is_file()), options.rates[0])

    def cost_at(rate: float) -> float:
        files = [_file(arm, rate, seed, options) for seed in options.tuning_seeds]
        return sum(cost(json.loads(file.read_text())) for file in files)

    return min(tuned, key=cost_at)


def report(best: dict[str, float], options: argparse.Namespace) -> None:
    """Markdown, and with --report PICTURE.png and PICTURE.json."""
    arms = {}
    for arm, rate in best.items():
        files = [_file(arm, rate, seed, options) for seed in range(options.seeds)]
        runs = [json.loads(file.read_text()) for file in files if file.is_file()]
        if not runs:
            continue
        arms[arm] = (
            Arm([run["completions"] for run in runs], [run["reward"] for run in runs], options.steps * ROWS),
            runs,
        )
    print(
        f"\n| arm | rate | completions to {TARGET} | tokens | / dr_grpo | / spans | explained, late | noise / group's, late |"
    )
    print("|" + "---|" * 8)
    table = {}
    for arm, (found, runs) in sorted(arms.items(), key=lambda each: statistics.fmean(each[1][0].censored)):
        name = arm if len(runs) == options.seeds else f"{arm} ({len(runs)} seeds)"
        cells = [name, f"{best[arm]:g}", found.line().removeprefix("completions ")]
        cells.append(f"{statistics.fmean(found.censored) * DOORS / 1000:,.0f} k")
        for other in ("dr_grpo", "spans"):
            if other not in arms or other == arm:
                cells.append("")
                continue
            both = min(len(found.completions), len(arms[other][0].completions))  # seeds from 0 that both have
            table[f"{arm} / {other}"] = ratio(first(found, both), first(arms[other][0], both))
            cells.append(table[f"{arm} / {other}"].line().split(" paired")[0])
        explained = [_late(run, CRITIC[0]) for run in runs]
        noise = [_late(run, CRITIC[1]) / _late(run, CRITIC[2]) for run in runs]
        explained, noise = ([value for value in each if not math.isnan(value)] for each in (explained, noise))
        cells += [f"{statistics.median(each):.2f}" if each else "" for each in (explained, noise)]
        print("| " + " | ".join(cells) + " |")
    if options.report:
        curves = {arm: found for arm, (found, _) in arms.items()}
        settings = {"steps": options.steps, "target": TARGET, "completions a step": ROWS, "rates": best}
        write_json(options.report.with_suffix(".json"), curves, table, {"settings": settings})
        title = "doors in train_grpo.py: reward, mean over seeds"
        curves = {arm: found for arm, found in curves.items() if len(found.completions) >= 5}
        draw(options.report.with_suffix(".png"), curves, title, ROWS, SMOOTH, TARGET)


def first(arm: Arm, seeds: int) -> Arm:
    return Arm(arm.completions[:seeds], arm.reward[:seeds], arm.budget)


def _late(run: dict, name: str) -> float:
    """Mean over the second half of the run; NaN where there is nothing."""
    values = [value for value in run.get(name, [])[len(run["reward"]) // 2 :] if value is not None]
    return statistics.fmean(values) if values else math.nan


def _file(arm: str, rate: float, seed: int, options: argparse.Namespace) -> Path:
    return options.runs / f"{arm.replace(' ', '_').replace(',', '')}-{rate:g}-{seed}.json"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("doors_trainer_runs"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds reported, from 0")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-4, 5e-4, 1e-3], help="one rate: no tuning")
    parser.add_argument("--rate", action="append", default=[], help="ARM=RATE: whatever tuning says")
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[1000])
    parser.add_argument("--steps", type=int, default=300, help="longest run; what is not there by then is censored")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only-report", action="store_true", help="run nothing; arms may have fewer seeds")
    parser.add_argument("--report", type=Path, help="also write REPORT.json and REPORT.png")
    return parser.parse_args()


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
