"""A baseline that each prompt brings along: the moving average of what it earned in earlier batches.

    A[b] = R[b] - v[x],   after the batch:   v[x] <- memory v[x] + (1 - memory) mean of R over x's rows of the batch

At first sight of a prompt there is no v: its rows get the mean of the others of their group instead, and v becomes their mean. A
run that sees every prompt once is RLOO to the bit. Rows without a reward teach nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.baseline import leave_one_out
from credit.declare import declares
from credit.methods.prompt_memory import PromptMemory


@declares(unbiased=True, weight_class="none", row_constant=True, source="moving average of a prompt's rewards")
class PromptEma(PromptMemory):
    """A = R - moving average of the prompt's earlier rewards; leave-one-out where it has none.

    Args:
        memory: what the average keeps of itself at each visit; 0: the last visit alone.

    Raises:
        ValueError: `memory` is not from 0 to below 1.
    """

    def __init__(self, memory: float = 0.8):
        super().__init__()
        if not 0.0 <= memory < 1.0:
            raise ValueError(f"memory={memory} must be at least 0 and below 1: at 1 the average never learns.")
        self.memory = memory

    def __call__(self, rewards_B: Tensor, group_B: Tensor, prompt_B: Tensor) -> Tensor:
        value_B, known_B = self.recall(prompt_B, rewards_B)
        advantages_B = torch.where(known_B, rewards_B - value_B, leave_one_out(rewards_B, group_B))
        for key, (mean, number) in self.seen(prompt_B, rewards_B).items():
            value, count = self.get(key) or (mean, 0.0)
            self.put(key, self.memory * value + (1 - self.memory) * mean, count + number)
        return advantages_B.nan_to_num(nan=0.0)
