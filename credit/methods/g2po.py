"""Credit by a graph of states: conversations of a prompt meet in equal states, and a turn is an edge from one to the next.

Shapes: J turns of the row that has most, M turns of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.baseline import length_weighted
from credit.declare import Declaration
from credit.reduce import column_moments, group_index
from credit.settings import check_types
from credit.turns.index import has_turn, spread_over_turns, turn_counts, turn_starts


@dataclass
class G2PO:
    """Spread: A[b,k] = A_E[b] + omega (N[b,k] + D[b,k]): the episode against its group, the turn by where it leads to.

        V(s)   = mean over the turns of the group that began in s of gamma^(turns left) R      "group aggregation"
        N[b,k] = V(next) - mean of V(next) over the turns of the group that began in the same state
        D[b,k] = V(next) - V(s) - mean of that over all turns of the group
        A_E[b] = R[b] - mean of R over the group, each row counted once for each of its turns

    The next state of a row's last turn is an end, worth R[b]. With `scale` N and D are divided by their standard deviations too. The
    state of a turn is `state_BT`. Means hold the row itself; where the other rows' number of turns depends on what they met, so do
    they. A state that one turn began in has N = 0.

    Left out of the code: its end states are worth 10 where the reward is 10 and 0 else, and a turn whose action is not valid loses
    0.1 of N; here an end is worth what was earned, which is the same for rewards of 0 and 10.

    Source: G2PO, arXiv 2606.22995, as in g2po/core_g2po.py (`mean_norm`; `scale` is its `mean_std_norm` without the episode's
    part), read in a copy of it that is in a public repository; the paper itself could not be read.

    Raises:
        ValueError: gamma outside [0, 1], omega or eps negative.
    """

    omega: float = 1.0
    """Weight of the turn's own advantage."""
    gamma: float = 0.95
    """Discount per turn that is left, at least one."""
    scale: bool = False
    """Whether the standard deviations of N and of D divide them."""
    eps: float = 1e-6
    """Added to the standard deviations."""

    def __post_init__(self):
        check_types(self, "spread.")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"spread.gamma must lie in [0, 1], got {self.gamma}.")
        if self.omega < 0 or self.eps < 0:
            raise ValueError(f"spread.omega and spread.eps must be >= 0, got {self.omega} and {self.eps}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "future", False, "G2PO, arXiv 2606.22995; its code")

    def __call__(
        self, turn_BT: Tensor, state_BT: Tensor, mask_BT: Tensor, rewards_B: Tensor, group_B: Tensor
    ) -> Tensor:
        turn_BT = turn_BT.masked_fill(~mask_BT, -1)
        counts_B, scorable_B = turn_counts(turn_BT), ~rewards_B.isnan()
        episode_B = length_weighted(rewards_B, group_B, counts_B)
        row_M, column_M = (turn_starts(turn_BT) & scorable_B[:, None]).nonzero(as_tuple=True)
        turn_M, group_M = turn_BT[row_M, column_M], group_index(group_B)[0][row_M]
        _, node_M = torch.unique(torch.stack([group_M, state_BT[row_M, column_M]], dim=1), dim=0, return_inverse=True)
        rewards_M = rewards_B[row_M]
        here_M = _mean_of_each(rewards_M * self.gamma ** (counts_B[row_M] - turn_M).to(rewards_M.dtype), node_M)
        width = max(int(counts_B.max()) if len(counts_B) else 0, 1)
        value_BJ = rewards_B.new_zeros(len(rewards_B), width).index_put((row_M, turn_M), here_M)
        next_BJ = torch.nn.functional.pad(value_BJ[:, 1:], (0, 1))
        next_BJ = torch.where(has_turn(counts_B - 1, width), next_BJ, rewards_B.nan_to_num()[:, None])
        next_M = next_BJ[row_M, turn_M]
        step_M = self._less_mean(next_M, node_M) + self._less_mean(next_M - here_M, group_M)
        steps_BJ = torch.zeros_like(value_BJ).index_put((row_M, turn_M), step_M)
        return spread_over_turns((episode_B[:, None] + self.omega * steps_BJ) * scorable_B[:, None], turn_BT)

    def _less_mean(self, values_M: Tensor, of_M: Tensor) -> Tensor:
        centred_M1, std_M1 = column_moments(
            values_M[:, None], torch.ones_like(values_M, dtype=torch.bool)[:, None], of_M
        )
        return (centred_M1 / (std_M1 + self.eps) if self.scale else centred_M1)[:, 0]


def _mean_of_each(values_M: Tensor, of_M: Tensor) -> Tensor:
    """(M,) the mean over all that have the same number in `of_M`."""
    sums = values_M.new_zeros(len(values_M)).index_add(0, of_M, values_M)
    counts = torch.bincount(of_M, minlength=len(values_M)).clamp(min=1)
    return (sums / counts)[of_M]
