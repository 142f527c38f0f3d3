"""Does an audit's order of strategies predict which of them learns first?

    python benchmarks/audit/prediction.py --out docs/results/audit/prediction.json

Worlds: policies of free softmaxes, each strategy at its best step length of `LENGTHS` (over --seeds), 4 completions a prompt and step,
until the exact E[R] has gone `PART` of its way from the start to what can be reached. The audits: 32 batches at the start, and 32 at a
policy half way to that target (by exact gradient steps). Critics are least-squares fits. About 5 minutes on one core; worlds that --out
holds are not made again.
Doors: `audit.json` of --doors-start and --doors-middle (python -m lab.audit experiment=doors ...; docs/audit.md has the commands)
against the completions of docs/results/doors/value_doors_trainer.json.

Rank correlations (Spearman) of the completions with each of `PREDICTORS`, more meaning later, in every task and stage; over the worlds
their mean with Student's interval, in doors a bootstrap over strategies.

Shapes: S strategies, P prompts, N texts of all prompts, T tokens, R rows of a batch, D parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from kept import ROOT, keep
from scipy.stats import spearmanr

from compare.statistics import mean_interval
from configs.compose import named_strategy
from lab.audit.drawn import drawn
from lab.audit.estimates import audit_of
from lab.exact.quantities import Exact, climb
from lab.measure.declarations import enumerated
from lab.measure.scoring import Scorer

WORLDS = ("shares", "all_or_nothing", "filler", "poison", "levels", "delayed_key", "regex_tags")
STRATEGIES = ("rloo", "uniform", "seq_norm", "opo", "opo_loo", "spans", "otb", "value", "top_entropy", "gtpo", "taco")
PREDICTORS = ("nsr", "relative_bias", "slowness")
LENGTHS = (0.15, 0.4, 1.0)
SIZE, PART, STEPS, BATCHES = 4, 0.7, 150, 32
DOORS = {
    "decomposition .95": "decomposition_gae",
    "value .95": "value_gae",
    "value, leave-one-out": "value_loo",
    "ridge, leave-one-out": "ridge_loo",
    "separate, leave-one-out": "separate_loo",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="*", default=WORLDS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--doors-start", type=Path, default=Path("audits/doors/start"))
    parser.add_argument("--doors-middle", type=Path, default=Path("audits/doors/middle"))
    parser.add_argument("--out", type=Path, default=Path("runs/audit/prediction.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = json.loads(options.out.read_text(encoding="utf-8"))["worlds"] if options.out.is_file() else {}
    for name in options.worlds:
        tasks[name] = tasks.get(name) or of_world(name, options.seeds)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"worlds": tasks}), encoding="utf-8")
        print(name, json.dumps(tasks[name]["correlations"]), flush=True)
    found = {
        "over_worlds": over(tasks),
        "worlds": tasks,
    }
    if (options.doors_start / "audit.json").is_file():
        found["doors"] = of_doors(options.doors_start, options.doors_middle)
        print("doors", json.dumps(found["doors"]["correlations"]))
    keep(options.out, "python benchmarks/audit/prediction.py", found)
    print(json.dumps(found["over_worlds"], indent=1))


def of_world(name: str, seeds: int) -> dict:
    """Completions of each strategy until the target, and what audits at two stages said."""
    start = enumerated(name)
    first, most = start.mean(start.tree.rewards_N), reachable(start)
    target = first + PART * (most - first)
    middle = start
    while middle.mean(middle.tree.rewards_N) < (first + target) / 2:
        middle = climb(middle, 1, 0.2)
    stages = {"start": audited(start), "middle": audited(middle)}
    sizes = {each: stages["start"][each]["size"] for each in STRATEGIES}
    needed, best = {}, {}
    for each in STRATEGIES:
        means = {}
        for length in LENGTHS:
            rate = length / sizes[each] if sizes[each] else 0.0
            means[length] = [completions(start, each, rate, target, seed) for seed in range(seeds)]
        best[each] = min(means, key=lambda length: statistics.mean(means[length]))
        needed[each] = means[best[each]]
    middles = {each: statistics.mean(counts) for each, counts in needed.items()}
    return {
        "start_reward": first,
        "target": target,
        "completions": needed,
        "step_length": best,
        "audits": stages,
        "correlations": {stage: correlated(audits, middles) for stage, audits in stages.items()},
    }


def reachable(start: Exact) -> float:
    """E[R] of the best texts of each prompt, the environment's luck averaged by a long exact climb."""
    learner = climb(start, 60, 1.0)
    return learner.mean(learner.tree.rewards_N)


def audited(learner: Exact) -> dict[str, dict[str, float | None]]:
    """Noise and bias of each strategy, and how slow it should be."""
    strategies = {name: named_strategy(name) for name in STRATEGIES if name != "rloo"}
    collected = drawn(learner, strategies, BATCHES, SIZE, critic="fitted", seed=1)
    audit = audit_of(collected)
    found = {}
    for index, name in enumerate(collected.strategies):
        if name in STRATEGIES:
            numbers = audit.strategies[name]
            found[name] = predictors({metric: numbers[metric].value for metric in ("nsr", "cosine", "relative_bias")})
            found[name]["size"] = float(collected.gram_SBSB[index, :, index].diagonal().mean().sqrt())
    return found


def predictors(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    """nsr and relative_bias as they are; slowness = (1 + nsr) / cosine^2: what a step of the best length gains, |g|^2 cosine^2 / (1 + nsr),
    upside down. A signal that was not seen is the noisiest, a cosine that was not the slowest."""
    nsr, cosine, bias = (numbers[name] for name in ("nsr", "cosine", "relative_bias"))
    slow = None if nsr is None or not cosine or cosine <= 0 else (1 + nsr) / cosine**2
    return {"nsr": nsr, "relative_bias": bias, "slowness": slow}


def completions(start: Exact, name: str, rate: float, target: float, seed: int) -> int:
    """How many until E[R] reaches the target; all of them if it does not."""
    strategy, learner = named_strategy(name), start
    generator = torch.Generator().manual_seed(seed)
    tree = start.tree
    group_R = torch.arange(start.prompts).repeat_interleave(SIZE)
    mine_PN = tree.prompt_N == torch.arange(start.prompts)[:, None]
    for step in range(STEPS if rate else 0):
        texts_R = torch.multinomial(learner.probs_N * mine_PN, SIZE, replacement=True, generator=generator).flatten()
        _, coefficients_RT = Scorer(strategy, learner, critic="fitted").rows(texts_R, group_R)
        table_NT = torch.zeros(tree.mask_NT.shape, dtype=torch.float64).index_add_(0, texts_R, coefficients_RT)
        learner = learner.at(learner.theta + rate * learner.pull(table_NT))
        if learner.mean(tree.rewards_N) >= target:
            return (step + 1) * len(texts_R)
    return 2 * STEPS * len(group_R)


def correlated(audits: Mapping[str, Mapping[str, float | None]], needed: Mapping[str, float]) -> dict[str, float]:
    """Spearman's, of completions with each predictor."""
    names = [name for name in needed if name in audits]
    return {each: rank_correlation([audits[n][each] for n in names], [needed[n] for n in names]) for each in PREDICTORS}


def rank_correlation(predicted: Sequence[float | None], needed: Sequence[float]) -> float:
    """None is worst. Values that differ in the ninth digit only are equal."""
    plain = [math.inf if value is None else float(f"{value:.9g}") for value in predicted]
    return float(spearmanr(plain, needed).statistic)


def over(tasks: Mapping[str, dict]) -> dict:
    """Mean over worlds with Student's interval."""
    found: dict = {}
    for stage in ("start", "middle"):
        found[stage] = {}
        for each in PREDICTORS:
            values = [task["correlations"][stage][each] for task in tasks.values()]
            values = [value for value in values if not math.isnan(value)]
            mean = mean_interval([values])
            found[stage][each] = {
                "value": mean.value,
                "low": max(mean.low, -1.0),
                "high": min(mean.high, 1.0),
                "worlds": len(values),
            }
    return found


def of_doors(start: Path, middle: Path) -> dict:
    """The audits of the trainer's own gradients against completions that are published."""
    published = json.loads((ROOT / "docs/results/doors/value_doors_trainer.json").read_text(encoding="utf-8"))
    limit = published["settings"]["steps"] * published["settings"]["completions a step"]
    needed = {
        DOORS.get(arm, arm): statistics.mean(2 * limit if count is None else count for count in found["completions"])
        for arm, found in published["arms"].items()
    }
    stages, correlations = {}, {}
    for stage, folder in (("start", start), ("middle", middle)):
        if not (folder / "audit.json").is_file():
            continue
        audit = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
        numbers = {
            name: {m: of[m]["value"] for m in ("nsr", "cosine", "relative_bias")}
            for name, of in audit["strategies"].items()
        }
        stages[stage] = {name: predictors(numbers[name]) for name in needed if name in numbers}
        correlations[stage] = {each: resampled(stages[stage], needed, each) for each in PREDICTORS}
    return {"completions": needed, "audits": stages, "correlations": correlations}


def resampled(audits: Mapping[str, Mapping], needed: Mapping[str, float], predictor: str) -> dict[str, float | None]:
    """With the 95 % interval of a bootstrap over strategies; None where the predictor is the same for all, so that it orders nothing."""
    names = [name for name in needed if name in audits]
    pairs = [(audits[name][predictor], needed[name]) for name in names]
    if len({value for value, _ in pairs}) < 2:
        return {"value": None, "low": None, "high": None, "strategies": len(names)}
    generator, values = np.random.default_rng(0), []
    for _ in range(2000):
        some = [pairs[i] for i in generator.integers(0, len(pairs), len(pairs))]
        value = (
            rank_correlation(*zip(*some, strict=True))
            if len({value for value, _ in some}) > 1 and len(set(some)) > 2
            else math.nan
        )
        if not math.isnan(value):
            values.append(value)
    low, high = np.quantile(values, [0.025, 0.975])
    return {
        "value": rank_correlation(*zip(*pairs, strict=True)),
        "low": float(low),
        "high": float(high),
        "strategies": len(names),
    }


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
