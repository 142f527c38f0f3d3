"""Credit from spans against broadcast, in training: completions until a reward, paired over seeds.

    python benchmarks/spans_training.py doors --seeds 10 --target 0.9
    python benchmarks/spans_training.py chain --seeds 10 --steps 60

Each run is a process `train_grpo.py`; one that has reached the target is stopped. Both arms have the same seeds, model,
constant weight and leave-one-out baseline, so that only the spread differs. Results so far are kept in --out, and a
second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARMS = {
    "spans": ["credit=spans"],
    "broadcast": ["credit=dr_grpo", "credit/baseline=leave_one_out"],
}
TASKS = {"doors": ["experiment=doors"], "chain": []}
BATCH = {"doors": 16, "chain": 128}
SMOOTH = 10  # optimiser steps the reward is averaged over


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
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, str(ROOT / "train_grpo.py"), *TASKS[options.task], *ARMS[arm], f"seed={seed}"),
            *(f"run_dir={folder}/run", f"trainer.max_steps={options.steps}", "trainer.eval_on_start=false"),
            *("trainer.save_strategy=no", "show=0", "record.every=0", *options.override),
        ]
        log = (Path(folder) / "log").open("w")
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        rows: list[dict] = []
        try:
            while process.poll() is None:
                time.sleep(2)
                rows = _metrics(Path(folder) / "run" / "metrics.jsonl")
                if _reached(rows, options.target) is not None:
                    process.terminate()
                    break
        finally:
            process.wait()
        rows = _metrics(Path(folder) / "run" / "metrics.jsonl")
        if not rows:
            raise RuntimeError((Path(folder) / "log").read_text()[-3000:])
    step = _reached(rows, options.target)
    names = [key for key in rows[0] if key == "reward" or (key.startswith("rewards/") and key.endswith("/mean"))]
    return {
        "completions": None if step is None else (step + 1) * BATCH[options.task],
        "tokens": None if step is None else rows[step]["num_tokens"],
        "curves": {name: [round(row[name], 4) for row in rows] for name in names},
    }


def report(runs: list[dict], options: argparse.Namespace) -> None:
    """Per arm, and paired: geometric mean of the ratio with a 95 % bootstrap interval; area under each curve."""
    seeds = sorted({run["seed"] for run in runs})
    pairs = [{run["arm"]: run for run in runs if run["seed"] == seed} for seed in seeds]
    pairs = [pair for pair in pairs if len(pair) == len(ARMS)]
    print(f"\n{options.task}, {len(pairs)} paired seeds, at most {options.steps} steps, target {options.target}")
    for arm in ARMS:
        reached = [pair[arm]["completions"] for pair in pairs if pair[arm]["completions"]]
        middle = f"{statistics.median(reached):,.0f}" if reached else "-"
        print(f"  {arm:<10} reached {len(reached)}/{len(pairs)}, median completions {middle}: {sorted(reached)}")
    both = [pair for pair in pairs if all(pair[arm]["completions"] for arm in ARMS)]
    if both:
        logs = [math.log(pair["spans"]["completions"] / pair["broadcast"]["completions"]) for pair in both]
        low, high = bootstrap(logs)
        print(
            f"  completions, spans / broadcast: {math.exp(statistics.mean(logs)):.3f} "
            f"[{math.exp(low):.3f}, {math.exp(high):.3f}] over the {len(both)} seeds where both arrived"
        )
    for name in pairs[0]["spans"]["curves"] if pairs else []:
        gaps = []
        for pair in pairs:
            steps = min(len(pair[arm]["curves"][name]) for arm in ARMS)
            means = {arm: statistics.mean(pair[arm]["curves"][name][:steps]) for arm in ARMS}
            gaps.append(means["spans"] - means["broadcast"])
        low, high = bootstrap(gaps)
        gap = f"{statistics.mean(gaps):+.4f} [{low:+.4f}, {high:+.4f}]"
        print(f"  {name}, mean over the steps both made, spans - broadcast: {gap}")


def bootstrap(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    rng = random.Random(0)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def _reached(rows: list[dict], target: float) -> int | None:
    rewards = [row["reward"] for row in rows]
    return next(
        (n for n in range(SMOOTH - 1, len(rewards)) if statistics.fmean(rewards[n - SMOOTH + 1 : n + 1]) >= target),
        None,
    )


def _metrics(file: Path) -> list[dict]:
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # half written
        if "reward" in row:
            rows.append(row)
    return rows


def _line(run: dict) -> str:
    last = statistics.fmean(run["curves"]["reward"][-SMOOTH:])
    return f"completions {run['completions']}, steps {len(run['curves']['reward'])}, last reward {last:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--out", type=Path, default=Path("spans_training.json"))
    parser.add_argument(
        "--override", action="append", default=[], help="more overrides of train_grpo.py, for both arms"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
