"""Doors with a tabular policy: which learned baseline pays, and what an exact one would give.

    python benchmarks/doors/critic_tabular.py

The set-up of benchmarks/doors/spans_tabular.py: one softmax per position, 64 doors of 4 letters, 16 completions a step in two
groups of 8, plain gradient steps, each arm at its best learning rate of `RATES`, tuned on seeds that are not reported.
Credit is the (lambda-)return minus the critic's value; critics are fitted after their values were used:

    position      V(s_t) = b[t]: a critic that sees the position only
    last          V(s_t) = b[t, y_{t-1}]: all that a head on the last token's state can see before the trunk counts for it
    lms           V(s_t) = b[t] + sum_{s<t} u[s, y_s], by stochastic gradient steps on all positions
    decomposition the same form as shipped (credit.critic.decomposition): random features, ridge on whole completions,
                  level from the group
    table         the same with one feature for each letter at each position
    exact         the true value (`exact+loo`: minus the group's mean error at the position); `own` is the true advantage

A number after a name is lambda, else it is 1.
Prints completions until the expected reward is 0.9, with 95 % bootstrap intervals, and the share of the variance of the
exact value that the critic explains; writes --out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import torch
from critic_heads import Decomposition, Positions, Shipped
from decoder import DOORS, GROUP, ROWS, TARGET, V
from spans_tabular import bootstrap
from torch import Tensor

from credit import Strategy
from credit.baseline import group_mean, group_zscore
from credit.batch import Rollout
from credit.returns import gae, last_token_rewards
from credit.spread import spans
from credit.weight import seq_sum

RATES = tuple(2.0**power for power in range(-3, 8))
LONGEST = 150
GROUP_B = torch.arange(ROWS) // GROUP
MASK_BT = torch.ones(ROWS, DOORS, dtype=torch.bool)


class Position:
    """b[t]: mean return of the last steps, the same at each position here (all returns are alike before t is known)."""

    def __init__(self, keep: float = 0.7):
        self.keep, self.level = keep, 0.0

    def values(self, seen_BTD: Tensor) -> Tensor:
        return torch.full((len(seen_BTD), DOORS), self.level, dtype=torch.float64)

    def fit(self, seen_BTD: Tensor, rewards_B: Tensor) -> None:
        self.level = self.keep * self.level + (1 - self.keep) * rewards_B.mean().item()


class Last(Position):
    """b[t, y_{t-1}]: by recursive averages of the return."""

    def __init__(self, keep: float = 0.9):
        super().__init__()
        self.forget, self.sums, self.counts = keep, torch.zeros(DOORS, V).double(), torch.full((DOORS, V), 1.0).double()

    def values(self, seen_BTD: Tensor) -> Tensor:
        now_BTV = _last_letter(seen_BTD)
        table_TV = self.sums / self.counts
        return self.level + (now_BTV * table_TV).sum(2)

    def fit(self, seen_BTD: Tensor, rewards_B: Tensor) -> None:
        now_BTV = _last_letter(seen_BTD)
        super().fit(seen_BTD, rewards_B)
        self.sums = self.forget * self.sums + ((rewards_B - self.level)[:, None, None] * now_BTV).sum(0)
        self.counts = self.forget * self.counts + now_BTV.sum(0) + (1 - self.forget)


class Sum:
    """b[t] + sum of u, by gradient steps."""

    def __init__(self, gain: float = 0.05, keep: float = 0.7):
        self.gain, self.keep = gain, keep
        self.u_D, self.rest_T = torch.zeros(DOORS * V, dtype=torch.float64), torch.zeros(DOORS, dtype=torch.float64)

    def values(self, seen_BTD: Tensor) -> Tensor:
        return seen_BTD[:, :-1] @ self.u_D + self.rest_T

    def fit(self, seen_BTD: Tensor, rewards_B: Tensor) -> None:
        for _ in range(4):
            error_BT = rewards_B[:, None] - self.values(seen_BTD)
            self.u_D += self.gain * torch.einsum("bt,btd->d", error_BT, seen_BTD[:, :-1]) / (ROWS * DOORS)
            self.rest_T += (1 - self.keep) / 4 * error_BT.mean(0)


def _last_letter(seen_BTD: Tensor) -> Tensor:
    """(B, DOORS, V) one-hot of y_{t-1} with its position; zeros at t = 0. `seen` counts, so differences are the letters."""
    own_BTD = torch.cat([torch.zeros_like(seen_BTD[:, :1]), seen_BTD[:, 1:-1] - seen_BTD[:, :-2]], 1)
    return own_BTD.unflatten(2, (DOORS, V)).sum(2)


STRATEGIES = {
    "group_mean": Strategy(seq_sum, group_mean),
    "group_zscore": Strategy(seq_sum, group_zscore),
}
CRITICS = {"position": Position, "last": Last, "lms": Sum}
DECOMPOSITIONS = {"decomposition": lambda: Shipped(V), "table": lambda: Decomposition(Positions(V), ridge=0.001)}
ARMS = (
    *STRATEGIES,
    "spans",
    *CRITICS,
    "decomposition",
    "decomposition .95",
    "decomposition 0",
    "table",
    "exact",
    "exact+loo",
    "own",
)


def run(arm: str, rate: float, seed: int, doors: int = DOORS) -> tuple[int | None, list[float]]:
    """Completions until the expected reward is TARGET (None: never); correlation of value and exact value per step."""
    draws = torch.Generator().manual_seed(seed)
    logits_TV = torch.zeros(DOORS, V, dtype=torch.float64)
    key_T = torch.randint(V, (DOORS,), generator=draws)
    kind, _, lambda_ = arm.partition(" ")
    made = CRITICS.get(kind) or DECOMPOSITIONS.get(kind)
    critic, explained = made() if made else None, []
    for step in range(LONGEST):
        policy_TV = logits_TV.softmax(1)
        right_T = policy_TV.gather(1, key_T[:, None])[:, 0]
        if right_T.mean() >= TARGET:
            return step * ROWS, explained
        if not logits_TV.isfinite().all():
            break
        letters_BT = torch.multinomial(policy_TV, ROWS, replacement=True, generator=draws).T
        earned_BT = (letters_BT == key_T).double() / DOORS
        rewards_B = earned_BT.sum(1)
        to_go_T = right_T.flip(0).cumsum(0).flip(0) / DOORS
        exact_BT = earned_BT.cumsum(1) - earned_BT + to_go_T
        if arm in STRATEGIES:
            credit_BT = STRATEGIES[arm].score(Rollout(rewards_B, GROUP_B, MASK_BT, max_length=DOORS)).advantages_BT
        elif arm == "spans":
            credit_BT = spans(earned_BT, rewards_B, GROUP_B, MASK_BT)
        elif kind.startswith("exact"):
            credit_BT = rewards_B[:, None] - exact_BT
            if kind == "exact+loo":
                own_BT = torch.diff(exact_BT, dim=1, append=rewards_B[:, None])
                credit_BT = spans(own_BT, rewards_B, GROUP_B, MASK_BT)
        elif arm == "own":
            credit_BT = earned_BT - right_T / DOORS
        else:
            if kind in CRITICS:
                one_hot_BTD = torch.zeros(ROWS, DOORS, DOORS, V, dtype=torch.float64)
                one_hot_BTD[torch.arange(ROWS)[:, None], torch.arange(DOORS), torch.arange(DOORS), letters_BT] = 1.0
                seen = [torch.nn.functional.pad(one_hot_BTD.flatten(2).cumsum(1), (0, 0, 1, 0))]
                values_BT = critic.values(*seen)
            else:
                seen = [letters_BT, torch.empty(0)]
                values_BT = critic.values(*seen, rewards_B.to(torch.float32)).double()
            outcome_BT = last_token_rewards(rewards_B, MASK_BT)
            credit_BT = gae(outcome_BT, values_BT, MASK_BT, lambda_=float(lambda_ or 1))
            critic.fit(*seen, rewards_B if kind in CRITICS else rewards_B.float())
            gap_BT = exact_BT - values_BT
            explained.append(1 - (gap_BT.var(0).sum() / exact_BT.var(0).sum().clamp(min=1e-12)).item())
        chosen_TV = torch.zeros_like(logits_TV).scatter_add_(1, letters_BT.T, credit_BT.T)
        logits_TV += rate * (chosen_TV - credit_BT.sum(0)[:, None] * policy_TV)
    return None, explained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--out", type=Path, default=Path("critic_tabular.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    never = LONGEST * ROWS
    table = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for arm in [arm for arm in options.arms if arm not in table]:
        tuning = {rate: statistics.fmean(run(arm, rate, 1000 + s)[0] or never for s in range(3)) for rate in RATES}
        best = min(tuning, key=tuning.get)
        runs = [run(arm, best, seed) for seed in range(options.seeds)]
        counts = [count or never for count, _ in runs]
        late = [statistics.fmean(explained[len(explained) // 2 :]) for _, explained in runs if explained]
        table[arm] = {"rate": best, "completions": counts, "explained_late": statistics.fmean(late) if late else None}
        low, high = bootstrap([float(count) for count in counts])
        note = f"explained {table[arm]['explained_late']:.2f}" if late else ""
        mean = statistics.fmean(counts)
        print(f"{arm:<13} rate {best:>6g}   completions {mean:6.0f}  [{low:.0f}, {high:.0f}]  {note}", flush=True)
        if "group_mean" in table:
            logs = [math.log(a / b) for a, b in zip(counts, table["group_mean"]["completions"], strict=True)]
            table[arm]["to_group_mean"] = [math.exp(x) for x in (statistics.fmean(logs), *bootstrap(logs))]
        options.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
