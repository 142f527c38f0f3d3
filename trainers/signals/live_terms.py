"""What a strategy makes of the live forward pass besides credit: a factor on the weights, how much they weigh then, and a term of
its own in the loss."""

from __future__ import annotations

from torch import Tensor

from credit.checks import Doubts
from trainers.seam.visit import AUXILIARY_BT, WEIGHTS_BT, Visit


class LiveTerms:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    def _weigh_live(self, visit: Visit, doubts: Doubts) -> None:
        """The weights of this micro-batch with their live factor. What all of an optimiser step weigh is logged as `live_mass`."""
        factor_BT = self.credit.live_weights(visit.signals, doubts)
        visit.weights_BT = visit.inputs[WEIGHTS_BT] = visit.weights_BT * factor_BT.to(visit.weights_BT.dtype)
        self._log_sum("credit/live_mass", visit.weights_BT.sum())

    def _add_auxiliary(self, visit: Visit, policy_logps_BT: Tensor, doubts: Doubts) -> None:
        """The auxiliary term of this micro-batch, logged apart. `policy_logps_BT` has its graph, which the signals have not."""
        term_BT = self.credit.auxiliary_terms({**visit.signals, "policy_logps_BT": policy_logps_BT}, doubts)
        visit.auxiliary = (term_BT * visit.inputs[AUXILIARY_BT]).sum()
        self._log_sum("credit/auxiliary", visit.auxiliary)

    def _log_sum(self, name: str, part: Tensor) -> None:
        """Logs what the parts of an optimiser step, of all micro-batches and ranks, come to: TRL takes means over micro-batches."""
        mode = "train" if self.model.training else "eval"
        parts = self.current_gradient_accumulation_steps if mode == "train" else 1
        self._metrics[mode][name].append(self.accelerator.reduce(part.detach(), reduction="sum").item() * parts)
