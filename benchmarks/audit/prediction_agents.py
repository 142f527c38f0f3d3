"""Does an audit's order of strategies predict which of them learns first in the agents' task?

    python benchmarks/audit/prediction_agents.py --out docs/results/audit/prediction_agents.json

The games and arms of benchmarks/agents/table.py, whose conversations to a reward of 0.8 are published in docs/results/agents/table.json.
The audits: 32 batches of 32 conversations of the tabular policy at its start, and 32 of one half way to 0.8 (by exact gradient steps),
the same conversations for all arms; against 512 batches of each, which tells what the estimate cost. A running critic learns from 16
batches before, then stands still. The learner takes Adam's steps, so beside the predictors of benchmarks/audit/prediction.py stands

    adam    (1 + nsr) / cosine^2 of g / sqrt(E g^2) of each parameter, the arm's own E g^2, against the policy gradient

Rank correlations (Spearman) of the conversations with each predictor, more meaning later: in each game a bootstrap over arms, over the
games their mean with Student's interval. `arrived`: without the arms that did not arrive with every seed.
Trainer's loop: --loop names a folder with `step0/audit.json` and `step18/audit.json` (docs/audit.md has the commands), held against the
conversations in docs/results/agents/trainer.json. About four minutes on one core; games that --out holds are not made again. Writes
a picture beside --out.

Shapes: S arms, B batches, D parameters, W cells of the policy, A digits and `stop`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from kept import ROOT, keep, rounded
from prediction import PREDICTORS, predictors, resampled
from torch import Tensor

sys.path[:0] = [str(ROOT / "benchmarks" / "agents")]

from table import ARMS, TABLES, TARGET, RunningValues, direction, first_logits, held_out, played_of
from tabular import Settings

from compare.statistics import mean_interval
from lab.audit.estimates import audit_of
from trainers.audit.collected import Collected

BATCHES, MANY, WARMUP = 32, 512, 16
REFERENCE = "rloo"
EVERY = (*PREDICTORS, "adam")
DRAWN = ("keys", "errands")
IN_LOOP = {"mt_cae": "mt_grpo, cae"}  # what the published runs are called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="*", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--loop", type=Path, default=Path("audits/agents"))
    parser.add_argument("--out", type=Path, default=Path("runs/audit/prediction_agents.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    published = json.loads((ROOT / "docs/results/agents/table.json").read_text(encoding="utf-8"))["tables"]
    games = json.loads(options.out.read_text(encoding="utf-8"))["games"] if options.out.is_file() else {}
    for name in options.games:
        games[name] = games.get(name) or of_game(TABLES[name], published[name]["arms"])
        print(name, json.dumps(rounded(games[name]["correlations"])), flush=True)
    found = {"over_games": over_games(games), "games": games}
    if (options.loop / "step0" / "audit.json").is_file():
        found["loop"] = of_loop(options.loop)
        print("loop", json.dumps(rounded(found["loop"]["correlations"])))
    keep(options.out, "python benchmarks/audit/prediction_agents.py", found)
    draw(games, options.out.with_suffix(".png"))
    print(json.dumps(found["over_games"], indent=1))


def of_game(settings: Settings, arms: Mapping[str, dict]) -> dict:
    """What audits at two stages say of each arm, and how that goes with the conversations it needed."""
    needed = {arm: statistics.fmean(entry["conversations"]) for arm, entry in arms.items()}
    all_arrived = {
        arm: count for arm, count in needed.items() if arms[arm]["arrived"] == len(arms[arm]["conversations"])
    }
    start = first_logits(settings)
    stages = {"start": start, "middle": half_way(start, settings)}
    found: dict = {"conversations": needed, "rewards": {}, "audits": {}, "correlations": {}}
    for stage, logits_WA in stages.items():
        policy_WA = logits_WA.softmax(1)
        found["rewards"][stage] = held_out(settings).expected_reward(policy_WA)
        for name, batches in ((stage, BATCHES), (f"{stage}, {MANY} batches", MANY)):
            audits = audited(policy_WA, settings, batches)
            found["audits"][name] = audits
            found["correlations"][name] = {
                "all": {each: resampled(audits, needed, each) for each in EVERY},
                "arrived": {each: resampled(audits, all_arrived, each) for each in EVERY},
            }
    return found


def half_way(logits_WA: Tensor, settings: Settings) -> Tensor:
    """By steps along the exact gradient, until the expected reward is half way between its first and TARGET."""
    game, first = held_out(settings), None
    while True:
        logits_WA = logits_WA.detach().requires_grad_()
        reward = game.expected_reward_of(logits_WA.softmax(1))
        first = reward.item() if first is None else first
        if reward.item() >= (first + TARGET) / 2:
            return logits_WA.detach()
        (gradient_WA,) = torch.autograd.grad(reward, logits_WA)
        logits_WA = logits_WA + 0.2 * gradient_WA / gradient_WA.norm()


def audited(policy_WA: Tensor, settings: Settings, batches: int) -> dict[str, dict[str, float | None]]:
    """The predictors of each arm."""
    updates_SBD = updates(policy_WA, settings, batches)
    plain, scaled = numbers_of(updates_SBD), {}
    reference_BD = updates_SBD[-1:]
    sizes_S1D = updates_SBD.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
    scaled = numbers_of(torch.cat([updates_SBD[:-1] / sizes_S1D[:-1], reference_BD]))
    return {arm: plain[arm] | {"adam": scaled[arm]["slowness"]} for arm in ARMS}


def updates(policy_WA: Tensor, settings: Settings, batches: int) -> Tensor:
    """(S, B, D) of each arm and of the reference, on the same conversations."""
    rows, draws = random.Random("audit"), torch.Generator().manual_seed(1)
    critic = RunningValues(settings.count, settings.words)
    for _ in range(WARMUP):
        direction("turn_value, running V", played_of(policy_WA, rows, draws, settings), policy_WA, critic, settings)
    found = []
    for _ in range(batches):
        played = played_of(policy_WA, rows, draws, settings)
        names = [*ARMS, REFERENCE]
        found.append(
            torch.stack([direction(arm, played, policy_WA, critic, settings, learns=False).flatten() for arm in names])
        )
    return torch.stack(found, 1)


def numbers_of(updates_SBD: Tensor) -> dict[str, dict[str, float | None]]:
    """By the audit's own estimates."""
    collected = Collected(
        strategies=(*ARMS, REFERENCE),
        reference=REFERENCE,
        length=None,
        gram_SBSB=torch.einsum("sbd,tcd->sbtc", updates_SBD, updates_SBD),
        completions=32,
        generations=8,
    )
    audit = audit_of(collected)
    return {
        arm: predictors({metric: audit.strategies[arm][metric].value for metric in ("nsr", "cosine", "relative_bias")})
        for arm in ARMS
    }


def over_games(games: Mapping[str, dict]) -> dict:
    """Mean over games with Student's interval, cut at 1; and over those in which credit has later consequences."""
    found: dict = {}
    for stage in next(iter(games.values()))["correlations"]:
        found[stage] = {}
        for whose in ("all", "arrived"):
            found[stage][whose] = {}
            for each in EVERY:
                values = [game["correlations"][stage][whose][each]["value"] for game in games.values()]
                values = [value for value in values if value is not None]
                mean = mean_interval([values])
                found[stage][whose][each] = {
                    "value": mean.value,
                    "low": max(mean.low, -1.0),
                    "high": min(mean.high, 1.0),
                    "games": len(values),
                }
    return found


def of_loop(folder: Path) -> dict:
    """The audits of the trainer's own gradients against the conversations of the published runs."""
    published = json.loads((ROOT / "docs/results/agents/trainer.json").read_text(encoding="utf-8"))
    longest = published["settings"]["steps"] * published["settings"]["conversations a step"]
    needed = {
        arm: statistics.fmean(longest if count is None else count for count in found["completions"])
        for arm, found in published["arms"].items()
    }
    found: dict = {"conversations": needed, "rewards": {}, "audits": {}, "correlations": {}}
    for stage in ("step0", "step18"):
        file = folder / stage / "audit.json"
        if not file.is_file():
            continue
        audit = json.loads(file.read_text(encoding="utf-8"))
        found["rewards"][stage] = audit["about"]["mean_reward"]
        numbers = {
            IN_LOOP.get(name, name): {metric: of[metric]["value"] for metric in ("nsr", "cosine", "relative_bias")}
            for name, of in audit["strategies"].items()
        }
        found["audits"][stage] = {arm: predictors(numbers[arm]) for arm in needed if arm in numbers}
        found["correlations"][stage] = {each: resampled(found["audits"][stage], needed, each) for each in PREDICTORS}
    return found


def draw(games: Mapping[str, dict], out: Path) -> None:
    """What the audit foresaw against what was needed: a row for each game, a panel for each stage, a mark for each arm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    from compare.report.drawing import COLOURS

    names = [name for name in DRAWN if name in games]
    figure, grid = plt.subplots(len(names), 2, figsize=(6.4, 2.6 * len(names) + 1.4), sharey=True, sharex="row",
                                layout="constrained", squeeze=False)  # fmt: skip
    for row, name in enumerate(names):
        for axes, stage, said in zip(grid[row], ("start", "middle"), ("start", "half way"), strict=True):
            game = games[name]
            for place, (arm, needed) in enumerate(game["conversations"].items()):
                marker, fill = "os^D"[place // 3], COLOURS[place % len(COLOURS)]
                axes.plot(
                    [game["audits"][stage][arm]["slowness"]], [needed], marker, color=fill, markersize=6, label=arm
                )
            axes.set_title(f"{name}, {said}", fontsize=9, loc="left")
            axes.set(yscale="log", ylim=(18, 4500))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.grid(color="#e4e7eb")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("audit: (1 + noise over signal) / cosine\u00b2", fontsize=9)
    figure.supylabel("conversations to a reward of 0.8", fontsize=9)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), frameon=False, fontsize=8, ncols=3, loc="outside lower center"
    )
    figure.savefig(out, dpi=140)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
