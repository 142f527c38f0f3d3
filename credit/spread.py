"""Spreads: one advantage per completion -> one per token.

A spread that asks only for scoring-time signals runs once, on the rows of all ranks. One that asks for a signal of the
live forward pass (`policy_logps_BT`, `entropies_BT`, `values_BT`, ...) runs in the loss, on the rows of one
micro-batch, and must treat rows independently. Which of the two is read off its parameter names (credit/batch.py).
Output: (B, T); whatever it holds at masked tokens is set to 0 by `Strategy`.

`span_rewards_BT[b,t]` is what row b earned at token t. `values_BT[b,t]` is a critic's V(s_t), the expected outcome before
token t. Return-to-go keeps, for each token, only what was earned from there on: a token is neither praised nor blamed for
what had been settled before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.declare import Declaration, declares
from credit.reduce import less_others
from credit.returns import adaptive_lambda, first_token, gae
from credit.settings import check_types


@declares(unbiased=True, weight_class="none", row_constant=True, source="REINFORCE, Williams 1992")
def broadcast(advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """A[b,t] = A[b]: every token of a completion shares its credit."""
    return advantages_B[:, None].expand(mask_BT.shape)


@declares(
    unbiased=True,
    weight_class="none",
    row_constant=False,
    source="reward-to-go with a leave-one-out baseline per position; Sutton et al. 1999, RLOO arXiv 2402.14740",
)
def spans(span_rewards_BT: Tensor, rewards_B: Tensor, group_B: Tensor, mask_BT: Tensor) -> Tensor:
    """A[b,t] = G[b,t] - mean of H[j,t] over the other scorable rows j of the group; G[b,t] = sum_{s>=t} r[b,s].

    H[j,t] is row j's return-to-go at the same position, held at its value at row j's last token once row j is over.
    Brings its own baseline: combine with `baseline: none`, whose output it does not read.

    Assumption: r[b,s] depends on the tokens up to s only (rewards/text/spans.py; true of the spans of this repository's
    rewards, as far as their docstrings say). Then the part of the reward that is left out is a function of the prefix,
    and the baseline of other rows, so the direction stays unbiased; it is not where a span is decided by later text.

    Degenerate cases: reward at the last token only -> `leave_one_out` with `broadcast`, exactly, whatever the lengths.
    A group with one scorable row gets 0; so does a position where all rows of the group agree. Unscorable rows (NaN
    reward) get 0 and serve as nobody's baseline. Masked tokens: arbitrary finite values, set to 0 by `Strategy`.
    """
    scorable_B1 = ~rewards_B.isnan()[:, None]
    earned_BT = torch.where(scorable_B1, span_rewards_BT, torch.zeros_like(span_rewards_BT))
    returns_BT = earned_BT.flip(1).cumsum(1).flip(1)
    held_BT = _held(returns_BT, mask_BT | (earned_BT != 0))
    return less_others(returns_BT, held_BT, scorable_B1[:, 0], group_B)


@dataclass
class Value:
    """Spread: A[b,t] by GAE from the critic's values; at lambda = gamma = 1, the default, A = (outcome) - V(s_t).

    The outcome is the baseline's advantage (with `baseline: none` the reward itself), paid at the last learning token,
    plus the KL penalty at each token under `kl_in_reward`. The critic is fitted to the same outcome.

    Raises:
        ValueError: lambda_ or gamma outside [0, 1], or adaptive_alpha not positive.
    """

    lambda_: float = 1.0
    """1 is unbiased for any critic; below 1 the critic's errors enter and noise falls."""
    gamma: float = 1.0
    """Discount per token; below 1 the objective is another one."""
    adaptive_alpha: float | None = None
    """VAPO's alpha, e.g. 0.05; replaces `lambda_` by 1 - 1/(alpha L). None: off."""

    def __post_init__(self):
        check_types(self, "spread.")
        if not (0.0 <= self.lambda_ <= 1.0 and 0.0 <= self.gamma <= 1.0):
            raise ValueError(f"lambda_ and gamma must lie in [0, 1], got {self.lambda_} and {self.gamma}.")
        if self.adaptive_alpha is not None and self.adaptive_alpha <= 0:
            raise ValueError(f"adaptive_alpha must be positive (VAPO: 0.05), got {self.adaptive_alpha}.")

    @property
    def declaration(self) -> Declaration:
        exact = self.lambda_ == 1.0 and self.gamma == 1.0 and self.adaptive_alpha is None
        return Declaration(exact, "none", False, "GAE, arXiv 1506.02438, equation 16")

    def __call__(self, token_rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, lengths_B: Tensor) -> Tensor:
        return gae(token_rewards_BT, values_BT, mask_BT, self.gamma, self.lambda_of(lengths_B))

    def lambda_of(self, lengths_B: Tensor) -> float | Tensor:
        return self.lambda_ if self.adaptive_alpha is None else adaptive_lambda(lengths_B, self.adaptive_alpha)


@dataclass
class ValueWhitened(Value):
    """`Value`, then (A - mean) / (std + eps) over all learning tokens of the generation batch, all ranks, as in PPO.

    Runs at scoring time on values from before any update: one more forward pass, unless TRL makes its own for old
    log-probs. Couples every token with the batch, so the direction bends by O(1/B). A batch of equal A gets 0.
    Source: PPO as in verl `compute_gae_advantage_return`; REINFORCE++, arXiv 2501.03262.
    """

    eps: float = 1e-8
    """Added to the standard deviation."""

    def __post_init__(self):
        super().__post_init__()
        if self.eps < 0:
            raise ValueError(f"eps must be >= 0, got {self.eps}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "batch", False, "PPO with whitened advantages; GAE, arXiv 1506.02438")

    def __call__(  # type: ignore[override]
        self,
        token_rewards_BT: Tensor,
        scoring_values_BT: Tensor,
        mask_BT: Tensor,
        lengths_B: Tensor,
        rewards_B: Tensor,
    ) -> Tensor:
        advantages_BT = gae(token_rewards_BT, scoring_values_BT, mask_BT, self.gamma, self.lambda_of(lengths_B))
        learning_BT = mask_BT & ~rewards_B.isnan()[:, None]
        count = learning_BT.sum().clamp(min=1)
        mean = advantages_BT.masked_fill(~learning_BT, 0.0).sum() / count
        centred_BT = (advantages_BT - mean).masked_fill(~learning_BT, 0.0)
        std = (centred_BT.square().sum() / (count - 1).clamp(min=1)).sqrt()
        return centred_BT / (std + self.eps)


@declares(unbiased=True, weight_class="none", row_constant=True, source="REINFORCE with a baseline, Williams 1992")
def value_prompt(advantages_B: Tensor, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """A[b,t] = outcome - V(prompt): one baseline for each row, V before its first learning token. Unbiased for any critic."""
    return (advantages_B[:, None] - values_BT.gather(1, first_token(mask_BT)).to(advantages_B.dtype)).expand(
        mask_BT.shape
    )


def _held(returns_BT: Tensor, alive_BT: Tensor) -> Tensor:
    """The return-to-go of each row, from its last token on the value there. A row without tokens: 0."""
    positions_T = torch.arange(returns_BT.shape[1], device=returns_BT.device)
    last_B = torch.where(alive_BT, positions_T, torch.full_like(positions_T, -1)).amax(dim=1)
    at_last_B1 = returns_BT.gather(1, last_B.clamp(min=0)[:, None])
    return torch.where(positions_T <= last_B[:, None], returns_BT, at_last_B1)
