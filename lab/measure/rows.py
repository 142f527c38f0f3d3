"""What a provider of signals is asked with in the lab: rows of an enumerated world, and the exact answers of its policy.

Shapes: R rows, N texts of a world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from credit.batch import Rollout
from credit.signals import Rows, TokenStatistics
from credit.turns.index import turn_index, turn_starts
from lab.exact.quantities import Exact


class LabRows(Rows):
    """As `credit.signals.Rows`. Prompts are the world's names, completions lists of its tokens; there are no columns.

    Args:
        policy: the one that sampled. rollout: what the strategy sees without providers. texts_R: which texts of the world.
    """

    def __init__(self, policy: Exact, rollout: Rollout, texts_R: Tensor):
        tree = policy.tree
        self._policy, self._texts_R = policy, texts_R
        self.max_length = rollout.max_length
        self.mask_BT, self.written_BT = rollout.mask_BT, tree.written_NT[texts_R]
        self.token_ids_BT = tree.token_ids_NT[texts_R]
        self.rewards_B, self.rewards_BK, self.group_B = rollout.rewards_B, rollout.rewards_BK, rollout.group_B
        self.columns = {}

    @property
    def prompts(self) -> list[str]:  # type: ignore[override]
        """Names of the prompts; made when they are asked for, since a world has many texts."""
        tree = self._policy.tree
        return [tree.world.prompts[prompt] for prompt in tree.prompt_N[self._texts_R].tolist()]

    @property
    def prompt_ids(self) -> list[list[int]]:  # type: ignore[override]
        """The number of each prompt, as if it were one token."""
        return [[prompt] for prompt in self._policy.tree.prompt_N[self._texts_R].tolist()]

    @property
    def completions(self) -> list[list[str]]:  # type: ignore[override]
        """The tokens of each text."""
        words = self._policy.tree.world.vocabulary
        pairs = zip(self.token_ids_BT.tolist(), self.written_BT.tolist(), strict=True)
        return [[words[i] for i, there in zip(ids, written, strict=True) if there] for ids, written in pairs]

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        policy = self._policy
        every = TokenStatistics(policy.logps_NT, policy.entropies_NT, policy.sum_sq_NT)
        return TokenStatistics(*(values_NT[self._texts_R] for values_NT in every))

    def reference_logps(self) -> Tensor:
        """Of the policy's `origin`."""
        return self._policy.origin.logps_NT[self._texts_R]

    def span_rewards(self) -> Tensor:
        return self._policy.tree.span_rewards_NT[self._texts_R]

    def state_keys(self) -> list[list[int]]:
        tree = self._policy.tree
        starts_BT = turn_starts(turn_index(self.mask_BT))
        return [
            keys_T[starts_T].tolist() for keys_T, starts_T in zip(tree.shown_NT[self._texts_R], starts_BT, strict=True)
        ]

    def finished(self) -> Tensor:
        return self._policy.tree.finished_N[self._texts_R]

    def gather(self, values: Sequence[Any]) -> list[Any]:
        return list(values)
