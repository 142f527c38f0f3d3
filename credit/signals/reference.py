"""Log-probs under the policy that the run started from, whether or not the loss has a KL term.

Where TRL makes them for its KL term they are taken over. Else the start is kept: of a policy with an adapter the weights below
the adapter are the start already, and nothing is copied; of any other policy a frozen copy.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from credit.signals.contract import Models, Rows, provides


@provides(
    stage="both",
    ref_logps_BT="log-prob of each token under the policy that the run started from (with trainer.beta: TRL's reference); costs a "
    "forward pass, and a frozen copy of the policy unless it has an adapter or TRL has a reference",
)
class Reference:
    """Makes `ref_logps_BT`."""

    holds_start = True

    def prepare(self, models: Models) -> None:
        models.hold_start()

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        return {"ref_logps_BT": rows.reference_logps()}


reference = Reference()
