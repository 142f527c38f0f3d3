"""Spreads: one advantage per completion -> one per token.

A spread that asks only for scoring-time signals runs once, on the rows of all ranks. One that asks for a signal of the
live forward pass (`policy_logps_BT`, `entropies_BT`, `values_BT`, ...) runs in the loss, on the rows of one
micro-batch, and must treat rows independently. Which of the two is read off its parameter names (credit/batch.py).
Output: (B, T); whatever it holds at masked tokens is set to 0 by `Strategy`.
"""

from __future__ import annotations

from torch import Tensor

from credit.declare import declares


@declares(unbiased=True, weight_class="none", row_constant=True, source="REINFORCE, Williams 1992")
def broadcast(advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """A[b,t] = A[b]: every token of a completion shares its credit."""
    return advantages_B[:, None].expand(mask_BT.shape)
