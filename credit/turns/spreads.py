"""Spreads by turn: each turn of a conversation gets a credit of its own, all tokens of the turn the same.

`turn_rewards_BT[b,t]` is what row b earned in the turn that ends with token t; a row's sum is its reward. r[b,k] is the reward
of turn k, G[b,k] = sum_{l>=k} r[b,l] what was still to come when turn k began, n_b the row's number of turns.

Assumption of everything here that calls itself unbiased: what a turn earned is settled when the next turn begins. Then the
rewards that G leaves out are known before the first token of turn k. A judge who changes an earlier turn's reward because of
a later one breaks it.

Degenerate cases: unscorable rows (NaN reward) get 0 and serve as nobody's baseline; a group with one scorable row gets 0; a
row without a turn (no learning tokens) gets nothing, and its reward counts in the baselines of the others as it stands.

Shapes: J turns of the row that has most, X columns, M turns of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.baseline import length_weighted
from credit.declare import Declaration
from credit.reduce import column_moments, group_index, less_others
from credit.returns import discounted_suffix_sums
from credit.settings import check_types
from credit.turns.index import has_turn, spread_over_turns, sum_by_turn, turn_counts, turn_starts


@dataclass
class Turns:
    """Spread: A[b,k] = G[b,k] - mean of H[j,k] over the other scorable rows j of the group.

    H[j,k] is what row j had still to earn at its turn k. A row that ended before turn k counts as it stood at its last turn,
    so the baseline has the same number of terms whatever a row decides, and does not depend on when the row itself stops: a
    baseline over the rows that reached turn k does, which is a hidden price of every further turn (verl#7244, `MTGRPO`).
    Brings its own baseline: combine with `baseline: none`, whose output it does not read.

    With the reward on the last turn only it is `leave_one_out` with `broadcast`, exactly, whatever the number of turns.

    Source: ours; return-to-go by turn with RLOO's baseline, arXiv 2402.14740.

    Raises:
        ValueError: gamma outside [0, 1].
    """

    gamma: float = 1.0
    """Discount per turn; below 1 the objective is another one."""

    def __post_init__(self):
        check_types(self, "spread.")
        _check_fraction("gamma", self.gamma)

    @property
    def declaration(self) -> Declaration:
        return Declaration(self.gamma == 1.0, "none", False, "return-to-go by turn, leave one out by turn index; ours")

    def __call__(
        self, turn_rewards_BT: Tensor, turn_BT: Tensor, mask_BT: Tensor, rewards_B: Tensor, group_B: Tensor
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        returns_BJ = discounted_suffix_sums(sum_by_turn(turn_rewards_BT, turn_BT), self.gamma)
        held_BJ = _held(returns_BJ, turn_counts(turn_BT), rewards_B)
        return spread_over_turns(less_others(returns_BJ, held_BJ, ~rewards_B.isnan(), group_B), turn_BT)


@dataclass
class TurnValue:
    """Spread: A[b,k] by GAE over turns, from a critic's values V at the first token of each turn.

        delta[b,k] = r[b,k] + gamma V(s_{k+1}) - V(s_k),     A[b,k] = sum_l (gamma lambda)^l delta[b,k+l]

    After the last turn V is 0 where the row ended by itself. Where it was cut and `bootstrap` is on, what would have come is
    taken to be worth V of its last turn. At gamma = lambda = 1 without bootstrap this is G[b,k] - V(s_k): unbiased for any critic.
    Brings its own baseline: combine with `baseline: none`. The critic is fitted to what was still to come; with
    `critic.at=turns` at the first token of each turn only.

    Source: GAE, arXiv 1506.02438, equation 16, over turns as in turn-level PPO, arXiv 2512.17008.

    Raises:
        ValueError: lambda_ or gamma outside [0, 1].
    """

    lambda_: float = 1.0
    """1 is unbiased for any critic; below 1 the critic's errors enter and noise falls."""
    gamma: float = 1.0
    """Discount per turn; below 1 the objective is another one."""
    bootstrap: bool = True
    """Whether a row that was cut counts as worth V of its last turn beyond the cut."""

    def __post_init__(self):
        check_types(self, "spread.")
        _check_fraction("lambda_", self.lambda_)
        _check_fraction("gamma", self.gamma)

    @property
    def declaration(self) -> Declaration:
        exact = self.lambda_ == 1.0 and self.gamma == 1.0 and not self.bootstrap
        return Declaration(exact, "none", False, "GAE over turns, arXiv 1506.02438, equation 16")

    def __call__(
        self, turn_rewards_BT: Tensor, turn_BT: Tensor, mask_BT: Tensor, values_BT: Tensor, finished_B: Tensor
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        rewards_BJ, counts_B = sum_by_turn(turn_rewards_BT, turn_BT), turn_counts(turn_BT)
        values_BT = torch.where(turn_starts(turn_BT), values_BT, torch.zeros_like(values_BT)).to(rewards_BJ.dtype)
        values_BJ = sum_by_turn(values_BT, turn_BT)
        next_BJ = torch.nn.functional.pad(values_BJ[:, 1:], (0, 1))
        if self.bootstrap:
            last_B1 = (counts_B - 1).clamp(min=0)[:, None]
            cut_BJ = has_turn(counts_B, values_BJ.shape[1]) & ~has_turn(counts_B - 1, values_BJ.shape[1])
            cut_BJ &= ~finished_B[:, None]
            next_BJ = torch.where(cut_BJ, values_BJ.gather(1, last_B1), next_BJ)
        deltas_BJ = rewards_BJ + self.gamma * next_BJ - values_BJ
        return spread_over_turns(discounted_suffix_sums(deltas_BJ, self.gamma * self.lambda_), turn_BT)


@dataclass
class TurnDiscount:
    """Spread: a turn's reward is shared with the turns before it, by gamma^distance, and rows keep their total.

        s[b,k] = sum_{l>=k} r[b,l] gamma^(l-k) / sum_{i<=l} gamma^(l-i)
        A[b,k] = advantages_B[b] + strength (n_b s[b,k] - R[b])

    Over the turns of a row the second term sums to 0: within a row credit follows where the reward was earned, between rows the
    baseline decides. gamma = 1 is the baseline's own credit on every turn if only the last turn earns.

    Source: "turn-credit shaping", PrimeIntellect-ai/prime-rl#3282 (open): the smear is theirs. How they join it with the group's
    advantage could not be read; the second line is ours. Their scores of states become rewards as differences; ours are rewards.

    Raises:
        ValueError: gamma outside [0, 1], or strength negative.
    """

    gamma: float = 0.7
    """How far back a reward reaches: about 1 / (1 - gamma) turns."""
    strength: float = 1.0
    """How much of the row's own course joins its advantage; 0 is `broadcast`."""

    def __post_init__(self):
        check_types(self, "spread.")
        _check_fraction("gamma", self.gamma)
        if self.strength < 0:
            raise ValueError(f"strength must be >= 0, got {self.strength}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "future", False, "turn-credit shaping, PrimeIntellect-ai/prime-rl#3282")

    def __call__(
        self, advantages_B: Tensor, turn_rewards_BT: Tensor, turn_BT: Tensor, mask_BT: Tensor, rewards_B: Tensor
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        smeared_BJ = smear(sum_by_turn(turn_rewards_BT, turn_BT), self.gamma)
        total_B1 = smeared_BJ.sum(dim=1, keepdim=True)
        course_BJ = turn_counts(turn_BT)[:, None] * smeared_BJ - total_B1
        scorable_B1 = ~rewards_B.isnan()[:, None]
        return spread_over_turns((advantages_B[:, None] + self.strength * course_BJ) * scorable_B1, turn_BT)


@dataclass
class MTGRPO:
    """Spread: z-scores per turn index over the rows of the group that reached the turn, as published. Biased.

    `estimator`:
        aae     A[b,k] = z(o)[b] + coef z_k(r)[b], and z(o)[b] alone on the row's last turn
        cae     A[b,k] = z_k(G)[b], G discounted by gamma
        to_go   A[b,k] = sum over l = k..n_b of (r[b,l] - mean_l(r)), divided by no standard deviation

    o[b] = r[b, n_b - 1] is the outcome, the reward of the row's last turn; z_k and mean_k go over the rows that reached turn k, so
    the baseline depends on where a row stops. In `to_go` the number of its terms does, and each further turn costs the mean
    of what it earns. The paper and its code have two turns, a tool call and an answer; more are ours, by the same rule.

    Source: MT-GRPO, arXiv 2505.11821v1, section 4, and SiliangZeng/Multi-Turn-RL-Agent mt_grpo_env_trainer.py, where `aae` and
    `cae` are named; to_go: verl-project/verl#7244, which analyses it. A row of one turn has z(o) (there: of the sum of both rewards).

    Raises:
        ValueError: another estimator, gamma outside [0, 1], or eps negative.
    """

    estimator: str = "aae"
    """`aae`, `cae` or `to_go`."""
    coef: float = 1.0
    """Weight of a turn's own reward beside the outcome (`aae`)."""
    gamma: float = 1.0
    """Discount per turn (`cae`)."""
    eps: float = 1e-4
    """Added to the standard deviation."""

    def __post_init__(self):
        check_types(self, "spread.")
        if self.estimator not in ("aae", "cae", "to_go"):
            raise ValueError(f"estimator={self.estimator!r} is not one of aae, cae, to_go.")
        _check_fraction("gamma", self.gamma)
        if self.eps < 0:
            raise ValueError(f"eps must be >= 0, got {self.eps}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "future", False, "MT-GRPO, arXiv 2505.11821v1, section 4")

    def __call__(
        self, turn_rewards_BT: Tensor, turn_BT: Tensor, mask_BT: Tensor, rewards_B: Tensor, group_B: Tensor
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        rewards_BJ, counts_B = sum_by_turn(turn_rewards_BT, turn_BT), turn_counts(turn_BT)
        reached_BJ = has_turn(counts_B, rewards_BJ.shape[1]) & ~rewards_B.isnan()[:, None]
        if self.estimator == "to_go":
            centred_BJ, _ = column_moments(rewards_BJ, reached_BJ, group_B)
            return spread_over_turns(discounted_suffix_sums(centred_BJ, 1.0), turn_BT)
        if self.estimator == "cae":
            return spread_over_turns(
                self._z(discounted_suffix_sums(rewards_BJ, self.gamma), reached_BJ, group_B), turn_BT
            )
        last_B1 = (counts_B - 1).clamp(min=0)[:, None]
        outcome_B1 = self._z(rewards_BJ.gather(1, last_B1), reached_BJ[:, :1], group_B)
        earlier_BJ = has_turn(counts_B - 1, rewards_BJ.shape[1])
        return spread_over_turns(
            outcome_B1 + self.coef * self._z(rewards_BJ, reached_BJ, group_B) * earlier_BJ, turn_BT
        )

    def _z(self, values_BX: Tensor, counted_BX: Tensor, group_B: Tensor) -> Tensor:
        centred_BX, std_BX = column_moments(values_BX, counted_BX, group_B)
        return centred_BX / (std_BX + self.eps)


@dataclass
class GiGPO:
    """Spread: A[b,k] = A_E[b] + omega A_S[b,k]: the episode against its group, the turn against turns that began alike.

        A_E[b]   = R[b] - mean of R over the group, each row counted once for each of its turns (`across_steps`) or once
        A_S[b,k] = G[b,k] - mean of G over the turns of the group that began in the same state; alone: 0

    G discounted by gamma per turn. The state of a turn is `state_BT`. Means hold the row itself, as in the code; with
    `across_steps` longer conversations weigh more in the mean, which couples a row's credit with its number of turns.

    Source: GiGPO, arXiv 2505.10978, equations 3, 7, 8; langfengQ/verl-agent gigpo/core_gigpo.py, mode `mean_norm`.

    Raises:
        ValueError: gamma outside [0, 1], or omega negative.
    """

    omega: float = 1.0
    """Weight of the turn's own advantage."""
    gamma: float = 0.95
    """Discount per turn."""
    across_steps: bool = True
    """Whether the episode's mean counts a row once for each of its turns, as coded; false: once, as in the paper."""

    def __post_init__(self):
        check_types(self, "spread.")
        _check_fraction("gamma", self.gamma)
        if self.omega < 0:
            raise ValueError(f"omega must be >= 0, got {self.omega}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "future", False, "GiGPO, arXiv 2505.10978, equations 3, 7, 8")

    def __call__(
        self,
        turn_rewards_BT: Tensor,
        turn_BT: Tensor,
        state_BT: Tensor,
        mask_BT: Tensor,
        rewards_B: Tensor,
        group_B: Tensor,
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        scorable_B = ~rewards_B.isnan()
        counts_B = turn_counts(turn_BT) if self.across_steps else torch.ones_like(group_B)
        episode_B = length_weighted(rewards_B, group_B, counts_B)
        returns_BJ = discounted_suffix_sums(sum_by_turn(turn_rewards_BT, turn_BT), self.gamma)
        begun_BT = turn_starts(turn_BT) & scorable_B[:, None]
        anchors_BJ = _against_anchors(returns_BJ, begun_BT, turn_BT, state_BT, group_B)
        return spread_over_turns((episode_B[:, None] + self.omega * anchors_BJ) * scorable_B[:, None], turn_BT)


def smear(rewards_BJ: Tensor, gamma: float) -> Tensor:
    """(B, J) each reward shared over its turn and those before it, by gamma^distance; rows keep their sums."""
    steps = torch.arange(rewards_BJ.shape[1], device=rewards_BJ.device)
    reach_J = (gamma ** steps.to(rewards_BJ.dtype)).cumsum(0)  # sum_{i<=l} gamma^(l-i)
    return discounted_suffix_sums(rewards_BJ / reach_J, gamma)


def _held(returns_BJ: Tensor, counts_B: Tensor, rewards_B: Tensor) -> Tensor:
    """(B, J) the return-to-go of each row, from its last turn on the value there; without a turn: its reward."""
    turns_J = torch.arange(returns_BJ.shape[1], device=returns_BJ.device)
    held_BJ = returns_BJ.gather(1, torch.minimum(turns_J, (counts_B[:, None] - 1).clamp(min=0)))
    return torch.where(counts_B[:, None] > 0, held_BJ, rewards_B[:, None].to(held_BJ.dtype))


def _against_anchors(
    returns_BJ: Tensor, begun_BT: Tensor, turn_BT: Tensor, state_BT: Tensor, group_B: Tensor
) -> Tensor:
    """(B, J) return less the mean over the turns of the group that began in the same state, itself included."""
    row_M, column_M = begun_BT.nonzero(as_tuple=True)
    turn_M = turn_BT[row_M, column_M]
    where_M2 = torch.stack([group_index(group_B)[0][row_M], state_BT[row_M, column_M]], dim=1)
    _, anchor_M = torch.unique(where_M2, dim=0, return_inverse=True)
    value_M = returns_BJ[row_M, turn_M]
    all_count = torch.ones_like(value_M, dtype=torch.bool)[:, None]
    centred_M = column_moments(value_M[:, None], all_count, anchor_M)[0][:, 0]
    return torch.zeros_like(returns_BJ).index_put((row_M, turn_M), centred_M)


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
