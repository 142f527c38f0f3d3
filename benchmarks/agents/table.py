"""The game of tasks/errands.py with a tabular policy: how many conversations credit by turns saves, and exact credit would.

    python benchmarks/agents/table.py
    python benchmarks/agents/table.py --choose             # the arms by which the game with consequences was chosen

Games (`TABLES`): `errands`, as task=errands is shipped; `keys`, in which calls have later consequences; the same with a policy
that at first stops as often as it calls any digit; with one that begins with a habit, which is wrong, as the warm-started model
of benchmarks/agents/trainer.py does.

The policy is one softmax for each word that can be shown; of `errands` also one for each turn and word. 32 conversations a step
in groups of 8, as experiment=agents; Adam; each arm at its best rate of powers of two on seeds that are not reported, further
powers are tried as long as the best one stands at an edge. The number of interest is how many conversations were seen before
the expected reward of the policy, computed and not sampled, is `TARGET`.

Strategies are the shipped ones, as `credit=` names them, on a `Rollout` with the signals of turns. Besides them:

    exact               A*(s, a) = Q - V of every turn: the oracle
    myopic              the same of what the call itself earns: exact, and blind to consequences
    turn_value, exact V     the shipped spread on the exact values: what a perfect critic gives at lambda 1
    turn_value, running V   the shipped spread on a running mean for each (turn, word), in place of a network's values

Prints tables; writes JSON, as it goes, and a picture to --out; goes on from the JSON that is there.

Shapes: B conversations, J turns, T tokens (turns and tool texts by turns), W cells of the policy, A digits and `stop`, N turns
of all conversations, or steps. RunningValues: W words.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import torch
from tabular import Layouts, Played, Settings
from torch import Tensor

from compare.statistics import mean_interval, paired_difference
from configs.compose import named_strategy
from credit.batch import Rollout
from credit.strategy import Strategy

KEYS = Settings(idle=0.125, keys=0.25)
TABLES = {
    "keys": KEYS,
    "keys with stops": replace(KEYS, stop=0.0),
    "keys with a habit": replace(KEYS, habit=0.2),
    "errands": Settings(),
    "errands by turn": Settings(by_turn=True),
}
ROWS, GROUP = 32, 8
TARGET, STEPS = 0.8, 100
FIRST_RATES, EDGES = (0, -1, 1), (-6, 6)  # powers of two
TUNING = range(1000, 1010)
STOPS = 0.01
ARMS = {
    "exact": None,
    "myopic": None,
    "turn_value, exact V": "turn_value credit/critic=none",
    "turn_value, running V": "turn_value credit/critic=none",
    "turns": "turns",
    "gigpo": "gigpo",
    "turn_discount": "turn_discount",
    "mt_grpo": "mt_grpo",
    "mt_grpo, cae": "mt_grpo credit.spread.estimator=cae",
    "mt_grpo, to_go": "mt_grpo credit.spread.estimator=to_go",
    "dr_grpo": "dr_grpo",
    "seq_norm": "seq_norm",
}
CANDIDATES = [Settings(8, 4, 0.125, keys, lures) for keys, lures in ((0.25, 0.0), (0.25, 0.25), (0.125, 0.25))]


class RunningValues:
    """V by (turn, word): running means of what was still to come."""

    def __init__(self, turns: int, words: int, keep: float = 0.5):
        self.keep = keep
        self.sums_JW = torch.zeros(turns, words, dtype=torch.float64)
        self.counts_JW = torch.full_like(self.sums_JW, 1e-6)

    def __call__(self, word_BJ: Tensor) -> Tensor:
        return (self.sums_JW / self.counts_JW)[torch.arange(word_BJ.shape[1]), word_BJ]

    def fit(self, word_BJ: Tensor, returns_BJ: Tensor, turns_BJ: Tensor) -> None:
        self.sums_JW *= self.keep
        self.counts_JW *= self.keep
        where = (torch.arange(word_BJ.shape[1]).expand_as(word_BJ)[turns_BJ], word_BJ[turns_BJ])
        self.sums_JW.index_put_(where, returns_BJ[turns_BJ], accumulate=True)
        self.counts_JW.index_put_(where, torch.ones_like(returns_BJ[turns_BJ]), accumulate=True)


_strategy = cache(named_strategy)


@cache
def held_out(settings: Settings) -> Layouts:
    """Conversations whose expected reward is looked at."""
    return Layouts(list(range(256)), settings)


def run(arm: str, rate: float, seed: int, settings: Settings) -> tuple[float | None, list[float]]:
    """Conversations until the expected reward is TARGET, steps cut in proportion (None: never within STEPS), and the expected
    reward before each step."""
    critic = RunningValues(settings.count, settings.words)
    rows, draws = random.Random(f"table {seed}"), torch.Generator().manual_seed(seed)
    logits_WA = first_logits(settings)
    optimizer = torch.optim.Adam([logits_WA], lr=rate, maximize=True)
    curve = []
    for step in range(STEPS):
        policy_WA = logits_WA.softmax(1)
        curve.append(held_out(settings).expected_reward(policy_WA))
        if curve[-1] >= TARGET:
            before = curve[-2] if step else curve[-1]
            return round(ROWS * (step - (curve[-1] - TARGET) / max(curve[-1] - before, 1e-9)), 1), curve
        logits_WA.grad = _update(arm, policy_WA, rows, draws, critic, settings)
        optimizer.step()
    return None, curve


def first_logits(settings: Settings) -> Tensor:
    """(W, A) of the policy before the first step."""
    logits_WA = torch.zeros(settings.cells, settings.options + 1, dtype=torch.float64)
    logits_WA[:, -1] = settings.stop
    if settings.habit:
        share = (1 - settings.habit) / settings.options  # of any other digit
        cells = torch.arange(settings.cells)
        logits_WA[cells, (cells + 1) % settings.options] = math.log((settings.habit + share) / share)
        logits_WA[:, -1] = math.log(STOPS / share)
    return logits_WA


def _update(arm: str, policy_WA: Tensor, rows, draws, critic: RunningValues, settings: Settings) -> Tensor:
    """(W, A) the arm's direction from one step's conversations."""
    return direction(arm, played_of(policy_WA, rows, draws, settings), policy_WA, critic, settings)


def played_of(policy_WA: Tensor, rows: random.Random, draws: torch.Generator, settings: Settings) -> Played:
    """The conversations of one step."""
    seeds = [rows.randrange(2**40) for _ in range(ROWS // GROUP)]
    return Layouts([seed for seed in seeds for _ in range(GROUP)], settings).play(policy_WA, draws)


def direction(
    arm: str, played: Played, policy_WA: Tensor, critic: RunningValues, settings: Settings, learns: bool = True
) -> Tensor:
    """(W, A) where the arm goes after these conversations. learns: whether the critic is fitted to them."""
    if arm == "exact":
        credit_BJ = played.earned_BJ + played.values_BJ[:, 1:] - played.values_BJ[:, :-1]
    elif arm == "myopic":
        credit_BJ = played.earned_BJ - played.mean_own_BJ
    else:
        credit_BJ = _credited(_strategy(ARMS.get(arm) or arm), played, critic, arm.endswith("exact V"), learns)
    credit_BJ = credit_BJ * played.turns_BJ
    pull_BJA = torch.nn.functional.one_hot(played.calls_BJ, settings.options + 1) - policy_WA[played.cells_BJ]
    pulls_NA = (credit_BJ[..., None] * pull_BJA).flatten(0, 1)
    return torch.zeros_like(policy_WA).index_add_(0, played.cells_BJ.flatten(), pulls_NA)


def noise(arm: str, settings: Settings, steps: int = 1000) -> float:
    """Noise-to-signal ratio of a step's direction under the first policy: trace of the covariance over the squared mean, from
    `steps` steps; the mean's own sampling noise is taken off."""
    rows, draws = random.Random("noise"), torch.Generator().manual_seed(0)
    critic, policy_WA = RunningValues(settings.count, settings.words), first_logits(settings).softmax(1)
    updates_NWA = torch.stack([_update(arm, policy_WA, rows, draws, critic, settings) for _ in range(steps)])
    variance = float(updates_NWA.var(0).sum())
    return variance / (float(updates_NWA.mean(0).square().sum()) - variance / steps)


def _credited(strategy: Strategy, played: Played, critic: RunningValues, exact_values: bool, learns: bool) -> Tensor:
    """(B, J) weight times credit of each turn, by the strategy as a trainer calls it. The turn that ends a whole conversation
    has no choice in it, but it is a turn of the row."""
    pad, turns = torch.nn.functional.pad, played.calls_BJ.shape[1]
    ends_BJ = torch.cat([played.turns_BJ, played.whole_B[:, None]], 1)
    turn_J = torch.arange(turns + 1).expand_as(ends_BJ)
    over = 10**6  # a state of its own

    def in_tokens(values_BJ: Tensor, between: float) -> Tensor:
        """A turn is one token; a tool's text, one masked token, follows it."""
        return torch.stack([values_BJ, torch.full_like(values_BJ, between)], 2).flatten(1)

    signals = {
        "turn_BT": in_tokens(torch.where(ends_BJ, turn_J, -1), -1),
        "turn_rewards_BT": in_tokens(pad(played.earned_BJ, (0, 1)), 0.0),
        "state_BT": in_tokens(torch.where(ends_BJ, pad(played.words_BJ, (0, 1), value=over), -1), -1),
        "finished_B": torch.ones(ROWS, dtype=torch.bool),
    }
    mask_BT = in_tokens(ends_BJ, False)
    group_B = torch.arange(ROWS) // GROUP
    rewards_B = played.earned_BJ.sum(1)
    rollout = Rollout(rewards_B, group_B, mask_BT, max_length=mask_BT.shape[1]).with_provided(signals)
    credit = strategy.score(rollout)
    advantages_BT = credit.advantages_BT
    if strategy.needs_values:
        values_BJ = played.values_BJ if exact_values else pad(critic(played.words_BJ), (0, 1))
        live = rollout.signals() | {"values_BT": in_tokens(values_BJ, 0.0), "advantages_B": credit.advantages_B}
        advantages_BT = strategy.live_advantages(live)
        if learns:
            critic.fit(played.words_BJ, played.earned_BJ.flip(1).cumsum(1).flip(1), played.turns_BJ)
    return (credit.weights_BT * advantages_BT)[:, 0 : 2 * turns : 2]


def tuned(arm: str, settings: Settings) -> dict[float, float]:
    """Mean conversations of the tuning seeds at each rate tried; a run that never arrives counts with all, and more the
    further it was from the target. A rate that can no longer be the best is left: its entry is then a lower bound."""

    def cost(power: int, best: float) -> float:
        total = 0.0
        for seed in TUNING:
            count, curve = run(arm, 2.0**power, seed, settings)
            total += STEPS * ROWS * (1 + TARGET - curve[-1]) if count is None else count
            if total > best * len(TUNING):
                break
        return total / len(TUNING)

    costs: dict[int, float] = {}
    todo = list(FIRST_RATES)
    while todo:
        for power in todo:
            costs[power] = cost(power, min(costs.values(), default=float("inf")))
        best = min(costs, key=lambda power: costs[power])
        todo = [power for power in (best - 1, best + 1) if power not in costs and EDGES[0] <= power <= EDGES[1]]
    return {2.0**power: round(costs[power], 1) for power in sorted(costs)}


def measured(arm: str, settings: Settings, seeds: int) -> dict:
    """The arm at its best rate: conversations of each seed (those that never arrive count with all) and the mean curve."""
    costs = tuned(arm, settings)
    best = min(costs, key=lambda rate: costs[rate])
    runs = [run(arm, best, seed, settings) for seed in range(seeds)]
    longest = max(len(curve) for _, curve in runs)
    held = [curve + [curve[-1]] * (longest - len(curve)) for _, curve in runs]
    return {
        "rate": best,
        "conversations": [STEPS * ROWS if count is None else count for count, _ in runs],
        "arrived": sum(count is not None for count, _ in runs),
        "last": round(statistics.fmean(curve[-1] for _, curve in runs), 4),
        "curve": [round(statistics.fmean(each), 4) for each in zip(*held, strict=True)],
        "tuning": {f"{rate:g}": cost for rate, cost in costs.items()},
    }


def over(arm: dict, reference: dict) -> dict[str, float]:
    """Geometric mean of the ratio over paired seeds, with Student's 95 % interval on the logarithms."""
    logs = [torch.tensor(each["conversations"]).double().log().numpy() for each in (arm, reference)]
    found = paired_difference([logs[0]], [logs[1]])
    return {key: round(float(torch.tensor(getattr(found, key)).exp()), 4) for key in ("value", "low", "high")}


def choose() -> None:
    """Prints what the choice of the game went by: three arms on the tuning seeds."""
    for settings in CANDIDATES:
        best = {
            arm: min(tuned(arm, settings).items(), key=lambda each: each[1]) for arm in ("exact", "myopic", "dr_grpo")
        }
        print(settings, {arm: f"{cost:.0f} at {rate:g}" for arm, (rate, cost) in best.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true", help="print what the game `keys` was chosen by, and end")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--out", type=Path, default=Path("runs/agents"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.choose:
        return choose()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "table.json"
    data = json.loads(file.read_text()) if file.is_file() else {"settings": SETTINGS, "tables": {}}
    for name in options.tables:
        settings = TABLES[name]
        table = data["tables"].setdefault(name, {"arms": {}})
        table["game"] = asdict(settings)
        for arm in options.arms:
            if arm not in table["arms"]:
                table["arms"][arm] = measured(arm, settings, options.seeds)
                file.write_text(json.dumps(data, separators=(",", ":")) + "\n")
                print(name, row(arm, table["arms"]), flush=True)
        for arm in NOISE_OF if "noise" not in table else ():
            table.setdefault("noise", {})[arm] = round(noise(arm, settings), 2)
        for reference in REFERENCES:
            for entry in table["arms"].values():
                entry[f"over {reference}"] = over(entry, table["arms"][reference])
    file.write_text(json.dumps(data, separators=(",", ":")) + "\n")
    draw(data, options.out / "table.png")
    for name, table in data["tables"].items():
        print(f"\n{name}\n")
        order = sorted(table["arms"], key=lambda arm: sum(table["arms"][arm]["conversations"]))
        print("\n".join(row(arm, table["arms"]) for arm in order))
        print("noise-to-signal of the first step:", table["noise"])


NOISE_OF = ("exact", "turn_value, exact V", "turns", "dr_grpo")  # the unbiased ones
REFERENCES = ("dr_grpo", "turns")
SETTINGS = {"conversations a step": ROWS, "group": GROUP, "threshold": TARGET, "longest": STEPS * ROWS}


def row(arm: str, arms: dict) -> str:
    """One line of a table of docs/credit/turns.md."""
    entry = arms[arm]
    mean, count = mean_interval([entry["conversations"]]), len(entry["conversations"])
    cells = [arm, f"{entry['rate']:.3g}", f"{mean.value:,.0f} [{mean.low:,.0f}, {mean.high:,.0f}]"]
    cells.append(f"{entry['arrived']} of {count}")
    for reference in REFERENCES:
        ratio = entry.get(f"over {reference}") if arm != reference else None
        cells.append(f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "")
    return "| " + " | ".join(cells) + " |"


def draw(data: dict, out: Path) -> None:
    """Mean expected reward by conversations seen: a panel for each game and policy, one line an arm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from compare.report.drawing import COLOURS, GREY, STYLES

    figure, axes = plt.subplots(2, 2, figsize=(9.6, 6.4), sharex=True, sharey=True, layout="constrained")
    for axis, name in zip(axes.flat, [name for name in TABLES if name != "errands by turn"], strict=True):
        for place, (arm, entry) in enumerate(data["tables"][name]["arms"].items()):
            seen = [step * ROWS for step in range(1, len(entry["curve"]) + 1)]
            style = STYLES[place // len(COLOURS) % len(STYLES)]
            colour = COLOURS[place % len(COLOURS)]
            axis.plot(seen, entry["curve"], label=arm, color=colour, linestyle=style, linewidth=1.6)
        axis.axhline(TARGET, color=GREY, linewidth=0.8)
        axis.set_title(name, fontsize=10, loc="left")
        axis.set(xscale="log", xlim=(ROWS, 3200))
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("conversations seen, those of the step to come included", fontsize=10)
    figure.supylabel(f"expected reward, held at {TARGET}", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
