"""The agents' game in train_grpo.py itself, through TRL's tool loop: conversations to 0.8 by credit strategy, paired seeds.

    python benchmarks/agents/trainer.py --runs DIR                     # goes on from what DIR holds
    python benchmarks/agents/trainer.py --runs DIR --only-report --out docs/results/agents

The game is `keys with a habit` of benchmarks/agents/table.py (`GAME`), the policy the embedded model of experiment=agents. Each run
is a process `train_grpo.py experiment=agents ...`, stopped once the mean reward of five steps is at the target; a seed has the
same warm start, the same conversations to play and the same initial random state in all arms. A run that does not arrive
counts with all it played.

All arms train at the first of --rates, and again at the others. The first should be the one at which `dr_grpo` is fastest on
the tuning seeds, which are not reported: they are run first, and what they cost is in the data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "doors"), str(ROOT)]

from paired import Arm, Ratio, draw, ratio, write_json
from until import reached, train_until

GAME = [
    *("experiment=agents", "task.count=8", "task.idle=0.125", "task.keys=0.25", "task.habit=0.2"),
    "model.pretrain.batch=64",
]
ARMS = {
    "exact": ["--config-dir", "benchmarks/agents/oracle", "credit=exact"],
    "turns": ["credit=turns"],
    "turn_value": ["credit=turn_value"],
    "turn_value, ridge": ["credit=turn_value", "credit/critic=ridge"],
    "dr_grpo": ["credit=dr_grpo"],
    "seq_norm": ["credit=seq_norm"],
    "mt_grpo, cae": ["credit=mt_grpo", "credit.spread.estimator=cae"],
}
REFERENCES = ("dr_grpo", "seq_norm", "turns")
ROWS, TARGET, LOWER, SMOOTH, STEPS = 32, 0.8, 0.6, 5, 100
TUNING_SEEDS = (1000, 1001)


def one(arm: str, rate: float, seed: int, runs: Path) -> dict:
    """The run's rewards and when it arrived, from its file if it is there."""
    file = runs / f"{arm}-{rate:g}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    overrides = [*ARMS[arm], *GAME, f"trainer.learning_rate={rate}"]
    overrides += [f"seed={seed}", f"task.seed={seed}", f"model.pretrain.seed={seed}"]
    rows = train_until(overrides, STEPS, TARGET, SMOOTH)
    rewards = [round(row["reward"], 4) for row in rows]
    step = reached(rewards, TARGET, SMOOTH)
    found = {"arm": arm, "rate": rate, "seed": seed}
    found["completions"] = None if step is None else (step + 1) * ROWS
    found["reward"] = rewards if step is None else rewards[: step + 1]
    found["seconds a step"] = round(statistics.median(row["step_time"] for row in rows), 3)
    file.write_text(json.dumps(found))
    print(f"  {arm}, rate {rate:g}, seed {seed}: {found['completions']}, last {rewards[-1]:.3f}", flush=True)
    return found


def cost(found: dict) -> float:
    """Of a tuning run: its conversations, or all and more, the further it was from the target."""
    return found["completions"] or STEPS * ROWS * (1 + TARGET - statistics.fmean(found["reward"][-SMOOTH:]))


def done(arm: str, rate: float, options: argparse.Namespace) -> Arm | None:
    """The arm's reported seeds, from the first on without a gap."""
    runs = []
    for seed in range(options.seeds):
        file = options.runs / f"{arm}-{rate:g}-{seed}.json"
        if not file.is_file():
            break
        runs.append(json.loads(file.read_text()))
    return Arm([run["completions"] for run in runs], [run["reward"] for run in runs], STEPS * ROWS) if runs else None


def until_lower(arm: Arm) -> Arm:
    """The same runs, up to the lower target; all that arrived at the higher one have been there."""
    steps = [reached(curve, LOWER, SMOOTH) for curve in arm.reward]
    return Arm([None if step is None else (step + 1) * ROWS for step in steps], arm.reward, arm.budget)


def against(name: str, reference: str, arms: dict[str, Arm]) -> dict[str, Ratio]:
    """Ratios of conversations to both targets, over the seeds that both arms have."""
    both = min(len(arms[each].completions) for each in (name, reference))
    first = [Arm(arms[each].completions[:both], arms[each].reward[:both], STEPS * ROWS) for each in (name, reference)]
    lower = [until_lower(arm) for arm in first]
    return {f"{name} / {reference}": ratio(*first), f"{name} / {reference}, to {LOWER}": ratio(*lower)}


def report(tuning: dict, options: argparse.Namespace) -> None:
    """Markdown; trainer.json and trainer.png to --out."""
    arms: dict[str, Arm] = {}
    table: dict[str, Ratio] = {}
    for rate in options.rates:
        for arm in options.arms:
            if (found := done(arm, rate, options)) and (len(found.completions) > 1 or options.seeds == 1):
                arms[named(arm, rate, options)] = found
    print(f"| arm | conversations | over | ratio | the same, to {LOWER} |\n|---|---|---|---|---|")
    for name, found in sorted(arms.items(), key=lambda each: statistics.fmean(each[1].censored)):
        cells = [name, found.line().removeprefix("completions ")]
        for reference in (each for each in arms if each.partition(" at ")[0] in REFERENCES and each != name):
            if rate_of(name) in ("", rate_of(reference)):
                lines = against(name, reference, arms)
                table |= lines
                print("| " + " | ".join([*cells, reference, *(each.line() for each in lines.values())]) + " |")
                cells = ["", ""]
        if cells[0]:
            print("| " + " | ".join(cells) + " | | | |")
    settings = {"game": GAME, "steps": STEPS, "target": TARGET, "conversations a step": ROWS, "rates": options.rates}
    settings["tuning"] = tuning
    options.out.mkdir(parents=True, exist_ok=True)
    medians = {name: statistics.median(arm.censored) for name, arm in arms.items()}
    write_json(options.out / "trainer.json", arms, table, {"settings": settings, "median conversations": medians})
    title = "keys with a habit, through TRL's tool loop: reward, mean over seeds"
    shown = {name: arm for name, arm in arms.items() if " at " not in name and len(arm.completions) == options.seeds}
    draw(options.out / "trainer.png", shown, title, ROWS, SMOOTH, TARGET)


def rate_of(name: str) -> str:
    """Empty: the main one."""
    return name.partition(" at ")[2]


def named(arm: str, rate: float, options: argparse.Namespace) -> str:
    """`turns`, or `turns at 0.001` at another rate than the main one."""
    return arm if rate == options.rates[0] else f"{arm} at {rate:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/agents_trainer"))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds reported, from 0")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 1e-3])
    parser.add_argument("--only-report", action="store_true", help="run nothing; arms may have fewer seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/agents"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    tuning = {
        f"{rate:g}": [round(cost(one(REFERENCES[0], rate, seed, options.runs))) for seed in TUNING_SEEDS]
        for rate in options.rates
    }
    print(f"tuning runs of {REFERENCES[0]}, by rate: {tuning}", flush=True)
    if not options.only_report:
        for rate in options.rates:
            for seed in range(options.seeds):
                for arm in options.arms:
                    one(arm, rate, seed, options.runs)
    report(tuning, options)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
