"""The critic `ridge`, linear and in closed form (credit/critic/ridge.py): sums of every micro-batch, one regression per optimiser step."""

from __future__ import annotations

import torch
from torch import Tensor

from credit.critic import RidgeSpec
from credit.critic.ridge import RidgeHead
from trainers.critic.base import StateCritic, pieces
from trainers.critic.hidden_states import PolicyTrunk

# Rows are put through in pieces of about this many numbers, so that a float64 copy of all states never exists.
PIECE = 2**23


class RidgeCritic(StateCritic):
    spec: RidgeSpec

    def __init__(self, trainer, spec: RidgeSpec, gamma: float):
        super().__init__(trainer, spec, gamma)
        self.trunk = PolicyTrunk(trainer.accelerator.unwrap_model(trainer.model))
        self.at, self.lambda_ = spec.at, spec.lambda_
        self.head = RidgeHead(self.trunk.width, spec.ridge, spec.forgetting, spec.running)
        self.head = self.head.to(trainer.accelerator.device)
        self._sums: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.head.state_dict(keep_vars=True)

    def values(self, states_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        return torch.cat([self.head(*piece) for piece in pieces(PIECE, states_BTD.detach(), visible_BT)])

    def learn(self, states_BTD, visible_BT, targets_BT, first_values_BT, weights_BT) -> None:
        """Adds the sums of one micro-batch."""
        for piece in pieces(PIECE, states_BTD.detach(), visible_BT, targets_BT, weights_BT):
            sums = self.head.sums(*piece)
            self._sums = sums if self._sums is None else self._sums + sums

    def step(self) -> None:
        if self._sums is not None:
            self.head.learn(self._accelerator.reduce(self._sums, reduction="sum"))
            self._sums = None
        super().step()
