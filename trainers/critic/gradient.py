"""A critic fitted by gradient: a head on hidden states, trained beside the policy, the same on every rank.

Per micro-batch: the first visit's values are kept with the rows (a critic fitted on the very sample is no baseline), then the
critic's loss is put backward, apart from the policy's. Weights of the loss come from counts over all ranks and the whole
optimiser batch, gradients are summed over ranks, so the fit does not depend on how the batch is cut. Per optimiser step:
one AdamW step. The critic's parameters stay out of the policy module, its optimiser, its gradient clipping and its DDP.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from credit.critic import GradientSpec
from credit.critic.head import ValueHead, value_loss
from trainers.critic.base import StateCritic, pieces
from trainers.critic.hidden_states import Trunk

# Rows are put through the head in pieces of about this many numbers, so that a float32 copy of all states never exists.
PIECE = 2**24
ROUNDING = 1e-5


class GradientCritic(StateCritic):
    """What `head`, `adapter` and `separate` share; they differ in their trunk."""

    spec: GradientSpec

    def __init__(self, trainer, spec: GradientSpec, gamma: float):
        super().__init__(trainer, spec, gamma)
        device = trainer.accelerator.device
        self.trunk = self.make_trunk(trainer.accelerator.unwrap_model(trainer.model), device)
        self.own_pass, self.at, self.lambda_ = self.trunk.own_pass, spec.at, spec.lambda_
        self.head = ValueHead(self.trunk.width, spec).to(device)
        self._parameters = {f"head.{name}": p for name, p in self.head.named_parameters()}
        self._parameters |= {f"trunk.{name}": p for name, p in self.trunk.parameters().items()}
        self._gradients: dict[str, Tensor] = {}
        self._level = torch.zeros(2, device=device)  # weight and weighted targets since the last step
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()), lr=spec.learning_rate, weight_decay=spec.weight_decay
        )
        self._equalise()

    @abstractmethod
    def make_trunk(self, policy: nn.Module, device: torch.device) -> Trunk:
        """Where this kind's hidden states come from.

        Raises:
            ValueError: the policy does not fit.
        """

    @property
    def coefficient(self) -> float | None:
        """Of the critic's loss as the policy's trunk learns from it too; None: it does not."""
        return None

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {**self._parameters, "head.level_2": self.head.level_2}

    def values(self, states_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        with torch.no_grad(), self._full_precision():
            raw = [self.head(states, visible) for states, visible in pieces(PIECE, states_BTD, visible_BT)]
            return self.head.values(torch.cat(raw))

    def learn(
        self,
        states_BTD: Tensor,
        visible_BT: Tensor,
        targets_BT: Tensor,
        first_values_BT: Tensor,
        weights_BT: Tensor,
    ) -> Tensor | None:
        """Puts the loss of one micro-batch backward: sum of weights_BT times the loss of each token."""
        targets_BT = self._in_range(targets_BT, weights_BT)
        rest = (visible_BT, targets_BT, first_values_BT, weights_BT)
        with self.trunk.active(), torch.enable_grad(), self._full_precision():
            if self.own_pass:
                self._loss(self.head, states_BTD, *rest).backward()
            else:
                for piece in pieces(PIECE, states_BTD.detach(), *rest):
                    self._loss(self.head, *piece).backward()
        self._collect_gradients()
        self._level += torch.stack([weights_BT.sum(), (weights_BT * targets_BT).sum()]).detach()
        if self.coefficient is None:
            return None
        frozen = {name: parameter.detach() for name, parameter in self.head.named_parameters()}
        with self._full_precision():
            shared = self._loss(lambda *a: torch.func.functional_call(self.head, frozen, a), states_BTD, *rest)
        # DDP averages over ranks, the weights count over all of them.
        return shared * self.coefficient * self._accelerator.num_processes

    def loss_of_values(self, values_BT: Tensor, targets_BT: Tensor) -> Tensor:
        if self.spec.loss == "cross_entropy":
            return nn.functional.binary_cross_entropy(values_BT, targets_BT.clamp(0, 1), reduction="none")
        return super().loss_of_values(values_BT, targets_BT)

    def step(self) -> None:
        """One optimiser step on the gradients of all ranks since the last one."""
        if not self._gradients:
            return
        names = list(self._parameters)
        flat = torch.cat([*(self._gradients[name].flatten() for name in names), self._level])
        flat, level = self._accelerator.reduce(flat, reduction="sum").split([len(flat) - 2, 2])
        if level.isfinite().all():
            self.head.note_level(*level)
        self._gradients.clear()
        self._level.zero_()
        norm = flat.norm()
        if norm.isfinite():
            flat = flat * (self.spec.max_grad_norm / norm.clamp(min=self.spec.max_grad_norm))
            for name, piece in zip(names, flat.split([self._parameters[n].numel() for n in names]), strict=True):
                self._parameters[name].grad = piece.view_as(self._parameters[name]).to(self._parameters[name].dtype)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self.metrics.flush("train", grad_norm=norm.item())

    def _state(self) -> dict:
        return self._optimizer.state_dict()

    def _load_state(self, state: dict) -> None:
        self._optimizer.load_state_dict(state)

    def _loss(self, head, states_BTD, visible_BT, targets_BT, first_values_BT, weights_BT) -> Tensor:
        loss_BT = value_loss(head(states_BTD, visible_BT), targets_BT, first_values_BT, self.spec)
        return (loss_BT * weights_BT).sum()

    def _full_precision(self):
        return torch.autocast(self._accelerator.device.type, enabled=False)

    def _collect_gradients(self) -> None:
        """Out of `.grad`, where the policy's gradient clipping would count those of an adapter."""
        for name, parameter in self._parameters.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            before = self._gradients.get(name)
            self._gradients[name] = gradient.float() if before is None else before + gradient.float()
            parameter.grad = None

    def _in_range(self, targets_BT: Tensor, weights_BT: Tensor) -> Tensor:
        """The targets, under cross_entropy in [0, 1]: a lambda-return may leave it by a rounding error."""
        if self.spec.loss != "cross_entropy":
            return targets_BT
        used = targets_BT[weights_BT > 0]
        if used.numel() and (used.min() < -ROUNDING or used.max() > 1 + ROUNDING):
            raise ValueError(
                f"critic.loss=cross_entropy needs outcomes in [0, 1], got {used.min():.3g} to {used.max():.3g}. Use "
                "critic.loss=squared, or baseline none, no KL in the reward and rewards in [0, 1]."
            )
        return targets_BT.clamp(0.0, 1.0)

    def _equalise(self) -> None:
        """All ranks start from rank 0's weights."""
        if self._accelerator.num_processes > 1:
            for parameter in self._parameters.values():
                torch.distributed.broadcast(parameter.data, src=0)
