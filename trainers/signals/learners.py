"""A copy of the policy that learns beside it, by a loss and an optimiser of its own (credit/signals/reward_model.py).

Shapes: b rows at once, S tokens of prompt and completion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from trainers.signals.contexts import plain_logps
from trainers.signals.copies import put_weights

RowLoss = Callable[[Tensor, Tensor], Tensor]


class Learner:
    """Args: `model`: a model of its own. `names`: the parameters of it that learn.

    Attributes: `model`, for `Rows.logps_after`.
    """

    def __init__(self, model: Any, names: Iterable[str], learning_rate: float, max_grad_norm: float):
        self.model, self._names, self._max_grad_norm = model, set(names), max_grad_norm
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._names)
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=0.0)

    def fit(
        self,
        loss: RowLoss,
        tokens_BS: Tensor,
        mask_BS: Tensor,
        width: int,
        temperature: float,
        rows_at_once: int,
        sum_up: Callable[[Tensor], Tensor] = lambda value: value,
        autocast: Callable = nullcontext,
    ) -> tuple[Tensor, float]:
        """As `credit.signals.Rows.fit`. `sum_up`: a tensor, over all ranks."""
        found, total = [], torch.zeros((), device=tokens_BS.device)
        self.model.train(getattr(self.model, "is_gradient_checkpointing", False))  # else layers keep all that they made
        with torch.enable_grad():  # TRL may score without
            for places_b in torch.arange(len(tokens_BS), device=tokens_BS.device).split(rows_at_once):
                with autocast():
                    logps_bT = plain_logps(self.model, tokens_BS[places_b], mask_BS[places_b], width, temperature)
                part = loss(logps_bT, places_b)
                part.backward()
                found.append(logps_bT.detach())
                total += part.detach()
        self.model.eval()
        for parameter in self._parameters:
            given = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = sum_up(given)
        clip_grad_norm_(self._parameters, self._max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return torch.cat(found), float(sum_up(total))

    def state_dict(self) -> dict[str, Any]:
        weights = {name: p.detach() for name, p in self.model.named_parameters() if name in self._names}
        return {"weights": weights, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        put_weights(self.model, state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
