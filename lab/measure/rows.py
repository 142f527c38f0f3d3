"""What a provider of signals is asked with in the lab: rows of an enumerated world, and the exact answers of its policy.

Shapes: R rows, N texts of a world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from credit.batch import Rollout
from credit.signals import Models, Rows, TokenStatistics
from credit.turns.index import turn_index, turn_starts
from lab.exact.quantities import Exact


class LabRows(Rows):
    """As `credit.signals.Rows`. Prompts are the world's names, completions lists of its tokens. Columns are
    `offline_rewards`, of eight texts of the prompt that the policy drew beforehand, always the same, and `answer`.

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
        self.columns = _Columns(policy, texts_R)

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

    def logps_after(self, contexts: Sequence[Any], model: Any = None) -> Tensor:
        """Whatever a context says, it is believed: the policy (or `model`, an `Exact`) given that the text does well."""
        policy, texts_R = model or self._policy, self._texts_R
        known_R = torch.tensor([context is not None for context in contexts])
        bare_R = torch.tensor([isinstance(context, list) and isinstance(context[0], int) for context in contexts])
        logps_RT = policy.logps_NT[texts_R]
        if not bare_R.all():
            logps_RT = torch.where(bare_R[:, None], logps_RT, policy.hindsight_NT[texts_R])
        return logps_RT.masked_fill(~known_R[:, None], torch.nan)

    def answer_logps(
        self, cuts: Sequence[Sequence[int]], answers: Sequence[str | None], opening: str = "", model: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Whatever the answer is called: the policy's (or that of `model`, an `Exact`) own probability of the right action in
        worlds that have one, else the chance of success. One token each."""
        logps_RT = (model or self._policy).answer_logps_NT[self._texts_R]
        width = max(1, *map(len, cuts))
        places_RC = torch.tensor([[*places, *[-1] * (width - len(places))] for places in cuts])
        found_RC = logps_RT.gather(1, places_RC.clamp(min=0)).masked_fill(places_RC < 0, torch.nan)
        known_R = torch.tensor([answer is not None for answer in answers])
        return found_RC.masked_fill(~known_R[:, None], torch.nan), known_R.long()

    def token_texts(self) -> list[list[str]]:
        return self.completions

    def reference_logps(self) -> Tensor:
        """Of the policy's `origin`."""
        return self._policy.origin.logps_NT[self._texts_R]

    def fit(self, learner: LabLearner, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, float]:
        return learner.fit(loss, self._texts_R)

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


class LabModels(Models):
    """As `credit.signals.Models`: models beside an exact policy."""

    def __init__(self, policy: Exact):
        self._policy = policy

    def copy_of_policy(self) -> Exact:
        """Where an average of the past would be: behind the policy, at its origin."""
        return self._policy.origin

    def learner(self, learning_rate: float, max_grad_norm: float) -> LabLearner:
        """Starts where the policy did: at its origin."""
        return LabLearner(self._policy.origin, learning_rate, max_grad_norm)

    def load(self, name: str | None, **options: Any) -> Exact:
        """Whatever its name, a policy that earns more."""
        return self._policy.better

    def follow(self, model: Any, decay: float) -> None:
        """The policy of the lab stands still."""

    def hold_start(self) -> None:
        """`Exact.origin` is always there."""


class LabLearner:
    """As `trainers.signals.learners.Learner`: parameters of an exact policy, and AdamW on them."""

    def __init__(self, start: Exact, learning_rate: float, max_grad_norm: float):
        self.model, self._theta, self._max_grad_norm = start, start.theta.clone().requires_grad_(), max_grad_norm
        self._optimizer = torch.optim.AdamW([self._theta], lr=learning_rate, weight_decay=0.0)

    def fit(self, loss: Callable[[Tensor, Tensor], Tensor], texts_R: Tensor) -> tuple[Tensor, float]:
        logps_RT = self.model.logps_at(self._theta)[texts_R]
        total = loss(logps_RT, torch.arange(len(texts_R)))
        total.backward()
        torch.nn.utils.clip_grad_norm_([self._theta], self._max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.model = self.model.at(self._theta)
        return logps_RT.detach(), float(total.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"theta": self._theta.detach(), "optimizer": self._optimizer.state_dict()}


class _Columns(Mapping[str, list]):
    """Made when they are read."""

    def __init__(self, policy: Exact, texts_R: Tensor):
        self._policy, self._texts_R = policy, texts_R
        self._made = {"offline_rewards": self._drawn, "answer": self._answers}

    def _drawn(self) -> list[list[float]]:
        tree, generator = self._policy.tree, torch.Generator().manual_seed(1)
        of_prompt = []
        for prompt in range(self._policy.prompts):
            texts = (self._policy.probs_N * (tree.prompt_N == prompt)).multinomial(8, True, generator=generator)
            of_prompt.append(tree.rewards_N[texts].tolist())
        return [of_prompt[prompt] for prompt in tree.prompt_N[self._texts_R].tolist()]

    def _answers(self) -> list[str]:
        """The right action in words; where the world has none, that the text is to succeed."""
        tree = self._policy.tree
        words = [*tree.world.vocabulary, "success"]
        return [words[number] for number in tree.answer_N[self._texts_R].tolist()]

    def __getitem__(self, name: str) -> list:
        return self._made[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)
