"""The critics of trainers/loop.py: V(s_t) before each token, in one process and for one batch at a time.

The same maths as the critics of `CreditGRPOTrainer` (trainers/critic/base.py), without ranks, micro-batches and files. Each has
    values(states_BTD, written_BT, rollout, advantages_B, outcome_BT)    (B, T) from what earlier batches taught, no gradient
    fit(states_BTD, written_BT, outcome_BT, signals)                     once for each optimiser step; learns from this batch
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from credit.batch import Rollout
from credit.critic import DecompositionSpec, HeadSpec, RidgeSpec
from credit.critic.decomposition import ReturnDecomposition, values_of
from credit.critic.head import ValueHead, value_loss
from credit.critic.ridge import RidgeHead
from credit.returns import gae
from credit.strategy import Strategy
from credit.turns.index import fitted_tokens

_ROUNDING = 1e-5  # by which a lambda-return may leave [0, 1]


def plain_critic(strategy: Strategy, model):
    """The critic that a strategy names; None if it names none.

    Raises:
        ValueError: as `unknown_critic` says.
    """
    for complaint in unknown_critic(strategy):
        raise ValueError(complaint)
    spec, gamma = strategy.critic, getattr(strategy.spread, "gamma", 1.0)
    if isinstance(spec, DecompositionSpec):
        return Decomposition(spec, model.config.vocab_size)
    if isinstance(spec, RidgeSpec):
        return Ridge(spec, gamma, model.config.hidden_size)
    return None if spec is None else Head(spec, gamma, model.config.hidden_size)


def unknown_critic(strategy: Strategy) -> Iterator[str]:
    """A sentence about a critic that is not here, or that is missing."""
    spec, gamma = strategy.critic, getattr(strategy.spread, "gamma", 1.0)
    if spec is None and strategy.needs_values:
        yield f"credit strategy {strategy.name!r} reads a critic's values and names no critic. Add credit/critic=head."
    if isinstance(spec, DecompositionSpec) and gamma != 1.0:
        yield "a decomposition adds up undiscounted contributions; keep credit.spread.gamma=1."
    if not isinstance(spec, DecompositionSpec | RidgeSpec | HeadSpec | None) or not getattr(spec, "detach", True):
        yield (
            f"{type(spec).__name__} is no critic of the plain loop, which has credit/critic=head (detach=true), ridge and "
            "decomposition. train_grpo.py has them all."
        )


class OnStates:
    """V on the hidden states that the policy's forward pass makes anyway, fitted to the lambda-return of its own texts."""

    def __init__(self, spec, gamma: float):
        self.spec, self.gamma = spec, gamma

    def fit(self, states_BTD: Tensor, written_BT: Tensor, outcome_BT: Tensor, signals: dict) -> None:
        mask_BT, values_BT = signals["mask_BT"], signals["values_BT"]
        targets_BT = gae(outcome_BT, values_BT, mask_BT, self.gamma, self.spec.lambda_) + values_BT
        fit_BT = fitted_tokens(self.spec.at, mask_BT) & ~signals["rewards_B"].isnan()[:, None]
        self.learn(states_BTD, written_BT, targets_BT, values_BT, fit_BT / fit_BT.sum().clamp(min=1))

    def learn(self, states_BTD: Tensor, written_BT: Tensor, targets_BT: Tensor, values_BT: Tensor, weights_BT: Tensor):
        raise NotImplementedError


class Head(OnStates):
    """Fitted by gradient, by an AdamW of its own."""

    def __init__(self, spec: HeadSpec, gamma: float, width: int):
        super().__init__(spec, gamma)
        self.head = ValueHead(width, spec)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), spec.learning_rate, weight_decay=spec.weight_decay)

    @torch.no_grad()
    def values(self, states_BTD: Tensor, written_BT: Tensor, *_) -> Tensor:
        return self.head.values(self.head(states_BTD, written_BT))

    def learn(self, states_BTD, written_BT, targets_BT, values_BT, weights_BT) -> None:
        if self.spec.loss == "cross_entropy":
            if (((targets_BT < -_ROUNDING) | (targets_BT > 1 + _ROUNDING)) & (weights_BT > 0)).any():
                raise ValueError("critic.loss=cross_entropy needs outcomes in [0, 1]. Use critic.loss=squared.")
            targets_BT = targets_BT.clamp(0.0, 1.0)
        raw_BT = self.head(states_BTD, written_BT)
        self.optimizer.zero_grad()
        (weights_BT * value_loss(raw_BT, targets_BT, values_BT, self.spec)).sum().backward()
        clip_grad_norm_(self.head.parameters(), self.spec.max_grad_norm)
        self.optimizer.step()
        self.head.note_level(weights_BT.sum(), (weights_BT * targets_BT).sum())


class Ridge(OnStates):
    """Fitted in closed form: recursive least squares (credit/critic/ridge.py)."""

    def __init__(self, spec: RidgeSpec, gamma: float, width: int):
        super().__init__(spec, gamma)
        self.head = RidgeHead(width, spec.ridge, spec.forgetting, spec.running)

    def values(self, states_BTD: Tensor, written_BT: Tensor, *_) -> Tensor:
        return self.head(states_BTD, written_BT)

    def learn(self, states_BTD, written_BT, targets_BT, values_BT, weights_BT) -> None:
        self.head.learn(self.head.sums(states_BTD, written_BT, targets_BT, weights_BT))


class Decomposition:
    """A regression of the reward on tokens and positions (credit/critic/decomposition.py). It looks at whole groups, so it
    learns when it is asked for values, right after it has given them."""

    def __init__(self, spec: DecompositionSpec, vocabulary: int):
        self.regression = ReturnDecomposition(vocabulary, spec.features, spec.ridge, spec.forgetting, spec.seed)

    def values(self, states_BTD, written_BT, rollout: Rollout, advantages_B: Tensor, outcome_BT: Tensor) -> Tensor:
        rewards_B, group_B, mask_BT = rollout.rewards_B, rollout.group_B, rollout.mask_BT
        contributions_BT, sums_BD = self.regression.contributions(rollout.token_ids_BT, mask_BT)
        values_BT = values_of(contributions_BT, outcome_BT, advantages_B, rewards_B, group_B, mask_BT)
        unseen_B = rewards_B.isnan() | ~mask_BT.any(dim=1)
        self.regression.fit(sums_BD, advantages_B.double().masked_fill(unseen_B, float("nan")), group_B)
        return values_BT.to(rewards_B.dtype)

    def fit(self, *_) -> None:
        pass
