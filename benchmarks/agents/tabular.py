"""The game of tasks/errands.py in tensors, with a tabular policy: conversations, exact values, exact expected reward.

The policy is a softmax over the digits and `stop` for each word that can be shown (`by_turn`: for each turn and word; then
nothing is shared between turns).

Shapes: B conversations, J turns, O states of a section (shut, open), A digits and `stop`, R call
(wrong, right), W cells of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.errands import DO, IDLE, KEY, LURE, WORTH, errands_of, kind_shown, stays_open

KINDS = (DO, IDLE, KEY, LURE)


@dataclass(frozen=True)
class Settings:
    """As of tasks.errands.errands. `by_turn`: whether the policy has a softmax of its own for each turn. `stop`: first logit of
    `stop`; digits begin at 0. `habit`: as of the task; above 0 the policy begins with it, and stops once in a hundred turns."""

    count: int = 8
    options: int = 4
    idle: float = 0.25
    keys: float = 0.0
    lures: float = 0.0
    by_turn: bool = False
    stop: float = -3.0
    habit: float = 0.0

    @property
    def words(self) -> int:
        return len(KINDS) * self.options

    @property
    def cells(self) -> int:
        return self.words * (self.count if self.by_turn else 1)


@dataclass
class Played:
    """Conversations as they went. `turns_BJ`: the policy wrote the turn; `whole_B`: it never stopped early."""

    calls_BJ: Tensor
    words_BJ: Tensor
    cells_BJ: Tensor
    turns_BJ: Tensor
    earned_BJ: Tensor
    values_BJ: Tensor
    """(B, J + 1) exact values before each turn and after the last."""
    whole_B: Tensor
    mean_own_BJ: Tensor
    """What the turn's own call earns, in expectation."""


class Layouts:
    """The errands of some conversations."""

    def __init__(self, seeds: list[int], settings: Settings):
        self.settings, options = settings, settings.options
        laid = [
            errands_of(seed, settings.count, options, settings.idle, settings.keys, settings.lures) for seed in seeds
        ]
        self.digit_BJ = torch.tensor([[digit for _, digit in row] for row in laid])
        shown_BJO = [[[kind_shown(kind, bool(o)) for o in range(2)] for kind, _ in row] for row in laid]
        index_BJO = torch.tensor([[[KINDS.index(kind) for kind in both] for both in row] for row in shown_BJO])
        self.word_BJO = index_BJO * options + self.digit_BJ[..., None]
        turn_J11 = torch.arange(settings.count)[:, None]
        self.cell_BJO = self.word_BJO + (turn_J11 * settings.words if settings.by_turn else 0)
        to_do_B11 = torch.tensor([max(sum(kind == DO for kind, _ in row), 1) for row in laid])[:, None, None]
        self.worth_BJO = torch.tensor([WORTH[kind] for kind in KINDS]).double()[index_BJO] / to_do_B11
        after = [[[[int(stays_open(k, right, bool(o))) for right in (False, True)] for k in KINDS] for o in range(2)]]
        self.next_BJOR = torch.tensor(after)[0][torch.arange(2), index_BJO]

    def values(self, policy_WA: Tensor) -> Tensor:
        """(B, J + 1, O) expected rewards still to come before each turn, and after the last."""
        rows, turns = self.digit_BJ.shape
        columns = [torch.zeros(rows, 2, dtype=torch.float64)]
        for turn in reversed(range(turns)):
            chance_BOA = policy_WA[self.cell_BJO[:, turn]]
            right_BO = chance_BOA.gather(2, self.digit_BJ[:, turn, None, None].expand(-1, 2, 1))[..., 0]
            wrong_BO = 1 - right_BO - chance_BOA[..., -1]
            next_BOR = columns[-1].gather(1, self.next_BJOR[:, turn].flatten(1)).view(rows, 2, 2)
            own_BO = right_BO * self.worth_BJO[:, turn]
            columns.append(own_BO + wrong_BO * next_BOR[..., 0] + right_BO * next_BOR[..., 1])
        return torch.stack(columns[::-1], 1)

    def expected_reward(self, policy_WA: Tensor) -> float:
        """Mean over the layouts; every conversation begins in an open section."""
        return float(self.expected_reward_of(policy_WA))

    def expected_reward_of(self, policy_WA: Tensor) -> Tensor:
        """The same with its graph."""
        return self.values(policy_WA)[:, 0, 1].mean()

    def play(self, policy_WA: Tensor, draws: torch.Generator) -> Played:
        """A conversation in each layout."""
        rows, turns = self.digit_BJ.shape
        stop, row_B = self.settings.options, torch.arange(rows)
        open_B, going_B = torch.ones(rows, dtype=torch.long), torch.ones(rows, dtype=torch.bool)
        values_BJO, columns = self.values(policy_WA), []
        for turn in range(turns):
            cell_B = self.cell_BJO[row_B, turn, open_B]
            call_B = torch.multinomial(policy_WA[cell_B], 1, generator=draws)[:, 0]
            right_B = call_B == self.digit_BJ[:, turn]
            worth_B = self.worth_BJO[row_B, turn, open_B] * going_B
            own_B = policy_WA[cell_B, self.digit_BJ[:, turn]] * worth_B
            word_B, value_B = self.word_BJO[row_B, turn, open_B], values_BJO[row_B, turn, open_B] * going_B
            columns.append((call_B, word_B, cell_B, going_B, right_B * worth_B, value_B, own_B))
            open_B = self.next_BJOR[row_B, turn, open_B, right_B.long()]
            going_B = going_B & (call_B != stop)
        calls_BJ, words_BJ, cells_BJ, turns_BJ, earned_BJ, values_BJ, own_BJ = (
            torch.stack(each, 1) for each in zip(*columns, strict=True)
        )
        values_BJ = torch.nn.functional.pad(values_BJ, (0, 1))
        return Played(calls_BJ, words_BJ, cells_BJ, turns_BJ, earned_BJ, values_BJ, going_B, own_BJ)
