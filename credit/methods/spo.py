"""Single-stream policy optimisation: a value tracker for each prompt instead of a group, and advantages standardised over the batch.

    A[b] = (R[b] - v[x] - mean) / (std + eps)     mean and std of R - v over the scorable rows of the batch
    n' = forget n + k,   v' = (forget n v + sum of x's k rewards in the batch) / n'

With rewards 0 and 1 this is a Beta distribution with alpha = n v and beta = n (1 - v), both of which fade by `forget` before the
new rewards are counted; written with n and v it holds for any rewards. A prompt begins with n = 1 / (1 - forget) and v = start.
v is the one before the batch, so without `whiten` the direction is unbiased; mean and std of the batch hold the row's own reward.

Source: arXiv 2509.13232, section 3. There each prompt has one completion in a batch; with more of them all count at one visit.
Not here: its forgetting by the KL divergence since the prompt's last visit (that needs its old completions scored again; `forget`
is constant, the paper's lies between 0.875 and 0.96), v of the first visit from samples drawn before training, and its sampling
of prompts by v (1 - v).
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.declare import declares
from credit.methods.prompt_memory import PromptMemory
from credit.reduce import batch_centred, batch_std


@declares(unbiased=False, weight_class="batch", row_constant=True, source="SPO, arXiv 2509.13232, section 3")
class SingleStream(PromptMemory):
    """A = R - tracked value of the prompt, standardised over the batch. Works with groups of one.

    Args:
        forget: what remains of the count behind a value at each visit, above 0 and below 1.
        start: value of a prompt at its first visit.
        whiten: whether to subtract the batch's mean and divide by its standard deviation.
        eps: added to the standard deviation.

    Raises:
        ValueError: `forget` is out of its range.
    """

    def __init__(self, forget: float = 0.9, start: float = 0.5, whiten: bool = True, eps: float = 1e-4):
        super().__init__()
        if not 0.0 < forget < 1.0:
            raise ValueError(f"forget={forget} must lie above 0 and below 1.")
        self.forget, self.start, self.whiten, self.eps = forget, start, whiten, eps

    def __call__(self, rewards_B: Tensor, prompt_B: Tensor) -> Tensor:
        value_B, known_B = self.recall(prompt_B, rewards_B)
        advantages_B = rewards_B - torch.where(known_B, value_B, torch.full_like(value_B, self.start))
        for key, (mean, number) in self.seen(prompt_B, rewards_B).items():
            value, count = self.get(key) or (self.start, 1 / (1 - self.forget))
            faded = self.forget * count
            self.put(key, (faded * value + number * mean) / (faded + number), faded + number)
        if self.whiten:
            advantages_B = batch_centred(advantages_B) / (batch_std(advantages_B) + self.eps)
        return advantages_B.nan_to_num(nan=0.0)
