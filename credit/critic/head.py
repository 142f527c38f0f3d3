"""The value head: hidden states before each token in, V(s_t) out, and the loss that fits it.

Shapes: O outputs of the readout, one, or with `running` two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from credit.critic.spec import GradientSpec

LEVEL_MEMORY = 0.5  # weight of earlier batches in the level, per batch


class ValueHead(nn.Module):
    """Hidden states before each token -> V before each token. float32, whatever the states' type.

    Args:
        width: of the hidden states, D.
        spec: `running`, `level`, `mlp`, `init_std`, `loss` and `seed` are read.
    """

    level_2: Tensor

    def __init__(self, width: int, spec: GradientSpec):
        super().__init__()
        self.running, self.squash, self.has_level = spec.running, spec.loss == "cross_entropy", spec.level
        self.register_buffer(
            "level_2", torch.zeros(2, dtype=torch.float64)
        )  # weight, weighted outcomes of the last batches
        outputs = 2 if spec.running else 1  # value of the state, contribution of the token
        with torch.random.fork_rng(devices=[]):  # a critic must not move the random numbers of a run
            torch.manual_seed(spec.seed)
            self.inner = nn.Sequential(nn.Linear(width, spec.mlp), nn.GELU()) if spec.mlp else nn.Identity()
            self.readout = nn.Linear(spec.mlp or width, outputs)
            nn.init.normal_(self.readout.weight, std=spec.init_std) if spec.init_std else nn.init.zeros_(
                self.readout.weight
            )
            nn.init.zeros_(self.readout.bias)

    def forward(self, hidden_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        """(B, T) raw values (before the sigmoid of cross_entropy, see `values`).

        `visible_BT`: bool, tokens the model really read, tool text included; padding contributes nothing to a running sum.
        """
        read_BTO = self.readout(self.inner(hidden_BTD.float()))
        if not self.running:
            return read_BTO.squeeze(-1) + self.offset
        # The state before token t has just read token t-1; the state before the first one has read the prompt.
        given_BT = read_BTO[..., 1].masked_fill(~visible_BT, 0.0)
        given_BT = torch.cat([torch.zeros_like(given_BT[:, :1]), given_BT[:, 1:]], dim=1)
        return read_BTO[..., 0] + given_BT.cumsum(dim=1) + self.offset

    @property
    def offset(self) -> Tensor:
        """0-d: the level, on the scale of raw values; 0 before anything was seen."""
        if not self.has_level or self.level_2[0] == 0:
            return self.level_2.new_zeros((), dtype=torch.float32)
        level = self.level_2[1] / self.level_2[0]
        return (level.clamp(0.01, 0.99).logit() if self.squash else level).float()

    def note_level(self, weight: Tensor, outcomes: Tensor) -> None:
        """One optimiser batch: its weight and the weighted sum of its outcomes."""
        self.level_2.mul_(LEVEL_MEMORY).add_(torch.stack([weight, outcomes]).double())

    def values(self, raw_BT: Tensor) -> Tensor:
        """V on the scale of the outcome."""
        return raw_BT.sigmoid() if self.squash else raw_BT


def value_loss(raw_BT: Tensor, targets_BT: Tensor, first_values_BT: Tensor, spec: GradientSpec) -> Tensor:
    """(B, T) loss of each token: half the squared error, clipped if asked for, or cross-entropy.

    `first_values_BT`: V of the first visit, which clipping measures from. Source: PPO, arXiv 1707.06347, equation 9, as in
    OpenAI baselines' clipped value loss.
    """
    if spec.loss == "cross_entropy":
        return nn.functional.binary_cross_entropy_with_logits(raw_BT, targets_BT, reduction="none")
    loss_BT = (raw_BT - targets_BT).square()
    if spec.clip_range is not None:
        near_BT = first_values_BT + (raw_BT - first_values_BT).clamp(-spec.clip_range, spec.clip_range)
        loss_BT = torch.maximum(loss_BT, (near_BT - targets_BT).square())
    return 0.5 * loss_BT
