"""TRL's forward pass kept, and handed out again as a leaf: so TRL's own loss says what each log-prob is worth to it.

`d loss / d logp` of one strategy after the other costs no forward pass but the first, and no backward pass through the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer


class LeafPass(GRPOTrainer):
    """Below `CreditGRPOTrainer` in the order of methods, so that it takes the place of TRL's forward pass and of nothing else.

    Inside `one_pass()` the first forward pass is TRL's and later ones are its results.
    """

    # On the class, so that TRL's methods work on an object made without `__init__`.
    _keeps_pass = False
    _live: tuple[Any, ...] | None = None
    _leaf_BT: Tensor | None = None

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Around all losses of the same rows."""
        self._keeps_pass = True
        try:
            yield
        finally:
            self._keeps_pass, self._live, self._leaf_BT = False, None, None

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        if not self._keeps_pass:
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if self._live is None:
            self._live = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        logps_BT, entropies_BT, *rest = self._live
        self._leaf_BT = logps_BT.detach().requires_grad_()
        return (self._leaf_BT, None if entropies_BT is None else entropies_BT.detach(), *rest)

    @property
    def live_logps_BT(self) -> Tensor:
        """Of the rows of `one_pass()`, with the graph of the policy."""
        assert self._live is not None, "no loss was asked for yet"
        return self._live[0]

    @property
    def live_entropies_BT(self) -> Tensor | None:
        """Of the same rows, without a graph; None: TRL made none."""
        assert self._live is not None, "no loss was asked for yet"
        entropies_BT = self._live[1]
        return None if entropies_BT is None else entropies_BT.detach()

    def coefficients_BT(self, inputs: dict) -> Tensor:
        """(B, T) float64, minus d loss / d logp of these rows under the credit that is set: what the gradient that points uphill
        is a sum of log-prob gradients with. Inside `one_pass()`."""
        with self.compute_loss_context_manager(), torch.enable_grad():
            loss = self._compute_loss(self.model, inputs)
        (slope_BT,) = torch.autograd.grad(loss, self._leaf_BT)
        return -slope_BT.double()
