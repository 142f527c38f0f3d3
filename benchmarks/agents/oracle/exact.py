"""The oracle of `errands`: each turn is credited with A*(s, a), what its call changed in what was still to be expected.

    python train_grpo.py --config-dir benchmarks/agents/oracle experiment=agents credit=exact

A* = Q(s, a) - V(s). Q knows the errands that are still to come and what each call opens or shuts, and goes over all that can
happen from there on. What the policy will do there is its chances for each word that can be shown, means over the turns of
the batch, so Q is exact of a policy that looks at the word only. V is the mean of Q under the chances that the policy itself
had at this turn, whatever they depend on.

Only a game that is known allows it. It costs reading every turn of the batch once for each digit.

Shapes: B conversations, T tokens, J turns, O states of a section (shut, open), W words, A digits and `stop`, R call (wrong,
right).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from benchmarks.agents.tabular import Layouts, Settings
from credit import declares, provides
from credit.turns.index import runs_of

_CALL = re.compile(r"<call>(\d+)</call>")


@declares(
    unbiased=False, weight_class="action", row_constant=False, source="exact where the policy looks at the word only"
)
def exact(best_BT):
    return best_BT


@provides(stage="scoring", best_BT="A*(s, a) of the token's turn, in a game of errands")
class Best:
    """Args: those of the game, task.count to task.lures."""

    def __init__(self, count: int, options: int, idle: float, keys: float = 0.0, lures: float = 0.0):
        self.settings = Settings(count, options, idle, keys, lures)

    def __call__(self, rows) -> dict[str, Tensor]:
        runs = [runs_of(mask_T) for mask_T in rows.mask_BT.tolist()]
        cuts = [[run[0] for run in row] for row in runs]
        digits = [str(digit) for digit in range(self.settings.options)]
        each = [rows.answer_logps(cuts, [f"<call>{digit}</call>"] * len(cuts))[0].exp() for digit in digits]
        chance_BJA = torch.stack([*each, 1 - sum(each)], dim=2).double()
        written = zip(rows.token_texts(), runs, strict=True)
        calls = [[_digit("".join(row[t] for t in run)) for run in of_row] for row, of_row in written]
        advantages = best(self.settings, rows.columns["seed"], calls, chance_BJA)
        best_BT = torch.zeros(rows.mask_BT.shape, dtype=rows.rewards_B.dtype)
        for b, row in enumerate(runs):
            for run, value in zip(row, advantages[b], strict=False):  # a turn after the last errand decides nothing
                best_BT[b, run] = value
        return {"best_BT": best_BT.to(rows.rewards_B.device)}


def best(settings: Settings, seeds: list[int], calls: list[list[int | None]], chance_BJA: Tensor) -> list[list[float]]:
    """A* of each turn of each conversation.

    Args:
        seeds: of the conversations.
        calls: the digit of each turn; None: it called nothing, and ended the conversation.
        chance_BJA: of each digit and of `stop`, had by the policy at each turn; what stands beyond a conversation is not read.
    """
    layouts = Layouts(seeds, settings)
    states = [_states(layouts, b, row[: settings.count]) for b, row in enumerate(calls)]
    policy_WA = _by_word(layouts, states, chance_BJA)
    values_BJO = layouts.values(policy_WA)
    found = []
    for b, row in enumerate(states):
        advantages = []
        for j, is_open in enumerate(row):
            right, own = int(layouts.digit_BJ[b, j]), layouts.worth_BJO[b, j, is_open]
            after_R = values_BJO[b, j + 1, layouts.next_BJOR[b, j, is_open]]  # wrong, right
            q_A = after_R[0].repeat(settings.options + 1)
            q_A[right], q_A[-1] = own + after_R[1], 0.0
            call = calls[b][j]
            taken = settings.options if call is None else call
            advantages.append(float(q_A[taken] - (chance_BJA[b, j] * q_A).sum()))
        found.append(advantages)
    return found


def _states(layouts: Layouts, b: int, calls: list[int | None]) -> list[int]:
    """Whether the section is open, as 0 or 1, before each turn."""
    states, is_open = [], 1
    for j, call in enumerate(calls):
        states.append(is_open)
        is_open = int(layouts.next_BJOR[b, j, is_open, int(call == int(layouts.digit_BJ[b, j]))])
    return states


def _by_word(layouts: Layouts, states: list[list[int]], chance_BJA: Tensor) -> Tensor:
    """(W, A) mean chances by word; of a word that was not shown: those of all others, by how far a digit is from the shown one."""
    settings = layouts.settings
    sums_WA = torch.zeros(settings.words, settings.options + 1, dtype=torch.float64)
    counts_W = torch.zeros(settings.words, dtype=torch.float64)
    turned_A, seen = torch.zeros(settings.options + 1, dtype=torch.float64), 0
    for b, row in enumerate(states):
        for j, is_open in enumerate(row):
            word, digit = int(layouts.word_BJO[b, j, is_open]), int(layouts.digit_BJ[b, j])
            sums_WA[word] += chance_BJA[b, j]
            counts_W[word] += 1
            turned_A += torch.cat([chance_BJA[b, j, :-1].roll(-digit), chance_BJA[b, j, -1:]])
            seen += 1
    for word in range(settings.words):
        if not counts_W[word]:
            mean_A = turned_A / max(seen, 1)
            sums_WA[word] = torch.cat([mean_A[:-1].roll(word % settings.options), mean_A[-1:]])
            counts_W[word] = 1
    return sums_WA / counts_W[:, None]


def _digit(text: str) -> int | None:
    called = _CALL.search(text)
    return int(called[1]) if called else None
