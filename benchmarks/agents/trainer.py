"""The agents' game in train_grpo.py itself, through TRL's tool loop: conversations to 0.8 by credit strategy, paired seeds.

    python benchmarks/agents/trainer.py --runs DIR                     # goes on from what DIR holds
    python benchmarks/agents/trainer.py --runs DIR --only-report --out docs/results/agents

The game is `small keys` of benchmarks/agents/table.py (`GAME`), the policy the embedded model of experiment=agents. Each run is a process
`train_grpo.py experiment=agents ...`, stopped once the mean reward of ten steps is at the target; a seed has the same warm
start, the same conversations to play and the same initial random state in all arms. With several --rates each arm has the one
that was best on the tuning seed, which is not reported. A run that does not arrive counts with all it played.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "doors"), str(ROOT)]

from paired import Arm, draw, gap, ratio, write_json
from until import SMOOTH, reached, train_until

GAME = ["experiment=agents", "task.count=6", "task.options=3", "task.idle=0.125", "task.keys=0.25"]
ARMS = ("turns", "dr_grpo", "turn_value", "mt_grpo", "seq_norm")
ROWS, TARGET, STEPS = 32, 0.8, 100
TUNING_SEED = 1000


def one(arm: str, rate: float, seed: int, runs: Path) -> dict:
    """The run's rewards and when it arrived, from its file if it is there."""
    file = runs / f"{arm}-{rate:g}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    overrides = [*GAME, f"credit={arm}", f"trainer.learning_rate={rate}"]
    overrides += [f"seed={seed}", f"task.seed={seed}", f"model.pretrain.seed={seed}"]
    rows = train_until(overrides, STEPS, TARGET)
    rewards = [round(row["reward"], 4) for row in rows]
    step = reached(rewards, TARGET)
    found = {"arm": arm, "rate": rate, "seed": seed}
    found["completions"] = None if step is None else (step + 1) * ROWS
    found["reward"] = rewards if step is None else rewards[: step + 1]
    found["seconds a step"] = round(statistics.median(row["step_time"] for row in rows), 3)
    file.write_text(json.dumps(found))
    print(f"  {arm}, rate {rate:g}, seed {seed}: {found['completions']}, last {rewards[-1]:.3f}", flush=True)
    return found


def tuned(arm: str, options: argparse.Namespace) -> dict[float, float]:
    """What the tuning run cost at each rate: its conversations, or all and more, the further it was from the target."""

    def cost(rate: float) -> float:
        found = one(arm, rate, TUNING_SEED, options.runs)
        last = statistics.fmean(found["reward"][-SMOOTH:])
        return found["completions"] or STEPS * ROWS * (1 + TARGET - last)

    return {rate: round(cost(rate), 1) for rate in options.rates}


def report(rates: dict[str, float], tuning: dict, options: argparse.Namespace) -> None:
    """Markdown; trainer.json and trainer.png to --out. Ratios of conversations, and gaps of the mean reward of the last ten
    steps played."""
    arms, table = {}, {}
    for arm, rate in rates.items():
        files = [options.runs / f"{arm}-{rate:g}-{seed}.json" for seed in range(options.seeds)]
        runs = [json.loads(file.read_text()) for file in files if file.is_file()]
        if runs:
            arms[arm] = Arm([run["completions"] for run in runs], [run["reward"] for run in runs], STEPS * ROWS)
    print("| arm | rate | conversations | arrived | / dr_grpo | / seq_norm |\n|---|---|---|---|---|---|")
    for arm, found in sorted(arms.items(), key=lambda each: statistics.fmean(each[1].censored)):
        cells = [arm, f"{rates[arm]:g}", found.line().removeprefix("completions ")]
        for other in ("dr_grpo", "seq_norm"):
            if other in arms and other != arm:
                both = min(len(found.completions), len(arms[other].completions))
                first = [Arm(each.completions[:both], each.reward[:both], each.budget) for each in (found, arms[other])]
                table[f"{arm} / {other}"] = ratio(*first)
                cells.append(table[f"{arm} / {other}"].line())
                ends = [[statistics.fmean(curve[-SMOOTH:]) for curve in each.reward] for each in first]
                table[f"{arm} - {other}, last rewards"] = gap(*ends)
                cells[-1] += "; " + table[f"{arm} - {other}, last rewards"].line().split(" paired")[0]
        print("| " + " | ".join(cells) + " |")
    settings = {"game": GAME, "steps": STEPS, "target": TARGET, "conversations a step": ROWS, "rates": rates}
    settings |= {"tuning": {arm: {f"{rate:g}": cost for rate, cost in costs.items()} for arm, costs in tuning.items()}}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "trainer.json", arms, table, {"settings": settings})
    title = "experiment=agents with keys: reward, mean over seeds"
    draw(options.out / "trainer.png", arms, title, ROWS, SMOOTH, TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/agents_trainer"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds reported, from 0")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="one rate: no tuning")
    parser.add_argument("--only-report", action="store_true", help="run nothing; arms may have fewer seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/agents"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    tuning = {arm: tuned(arm, options) for arm in options.arms} if len(options.rates) > 1 else {}
    rates = {arm: min(tuning[arm], key=tuning[arm].get) if tuning else options.rates[0] for arm in options.arms}
    print("learning rates:", ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items()), flush=True)
    if not options.only_report:
        for seed in range(options.seeds):
            for arm in options.arms:
                one(arm, rates[arm], seed, options.runs)
    report(rates, tuning, options)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
