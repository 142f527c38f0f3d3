"""Doors with a tabular policy: completions until 0.9 of the doors open, the shipped strategies, no language model.

    python benchmarks/doors/spans_tabular.py

One softmax per position, 64 doors of 4 letters, 16 completions a step in two groups of 8, plain gradient steps. Each
strategy at its best learning rate of `RATES`, chosen on other seeds than those reported; 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics

import torch
from decoder import DOORS, GROUP, ROWS, TARGET, V

from credit import Strategy
from credit.baseline import group_mean, group_zscore, leave_one_out, none
from credit.batch import Rollout
from credit.spread import spans
from credit.weight import seq_sum

STRATEGIES = {
    "group_mean": Strategy(seq_sum, group_mean),
    "group_zscore": Strategy(seq_sum, group_zscore),
    "leave_one_out": Strategy(seq_sum, leave_one_out),
    "spans": Strategy(seq_sum, none, spans),
}
RATES = tuple(2.0**power for power in range(0, 14))
LONGEST = 250  # optimiser steps


def run(strategy: Strategy, rate: float, seed: int, doors: int) -> int | None:
    """Completions drawn until the policy's expected reward is at least TARGET; None if it never is."""
    draws = torch.Generator().manual_seed(seed)
    logits_TV = torch.zeros(doors, V, dtype=torch.float64)
    key_T = torch.randint(V, (doors,), generator=draws)
    group_B = torch.arange(ROWS) // GROUP
    mask_BT = torch.ones(ROWS, doors, dtype=torch.bool)
    for step in range(LONGEST):
        policy_TV = logits_TV.softmax(1)
        if policy_TV.gather(1, key_T[:, None]).mean() >= TARGET:
            return step * ROWS
        letters_BT = torch.multinomial(policy_TV, ROWS, replacement=True, generator=draws).T
        earned_BT = (letters_BT == key_T).to(torch.float64) / doors
        credit = strategy.score(
            Rollout(earned_BT.sum(1), group_B, mask_BT, max_length=doors, span_rewards_BT=earned_BT)
        )
        signal_BT = credit.advantages_BT * credit.weights_BT
        chosen_TV = torch.zeros_like(logits_TV).scatter_add_(1, letters_BT.T, signal_BT.T)
        logits_TV += rate * (chosen_TV - signal_BT.sum(0)[:, None] * policy_TV)
    return None


def bootstrap(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    rng = random.Random(0)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--doors", type=int, default=DOORS)
    options = parser.parse_args()
    never = LONGEST * ROWS
    found: dict[str, list[int]] = {}
    for name, strategy in STRATEGIES.items():
        tuning = {
            rate: statistics.fmean(run(strategy, rate, 1000 + seed, options.doors) or never for seed in range(3))
            for rate in RATES
        }
        best = min(tuning, key=tuning.get)
        found[name] = [run(strategy, best, seed, options.doors) or never for seed in range(options.seeds)]
        low, high = bootstrap([float(count) for count in found[name]])
        print(f"{name:<14} rate {best:>6g}   completions {statistics.fmean(found[name]):7.0f}  [{low:.0f}, {high:.0f}]")
    for name in ("group_mean", "group_zscore", "leave_one_out"):
        logs = [math.log(a / b) for a, b in zip(found["spans"], found[name], strict=True)]
        low, high = bootstrap(logs)
        print(
            f"spans / {name:<14} {math.exp(statistics.fmean(logs)):.3f}  [{math.exp(low):.3f}, {math.exp(high):.3f}]"
            f"  paired over {options.seeds} seeds"
        )


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
