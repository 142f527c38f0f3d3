"""The weights in TRL's loss: hands TRL `A * w * P / w_trl`, so that TRL's own loss, clipping included, carries our weights.

Every TRL surrogate f(rho, A) is positively homogeneous in A, so a weight w >= 0 may ride on A. w_trl is the weight TRL's
`loss_type` itself gives token (b, t) of a micro-batch; P ranks average their gradients. Neither the KL term nor the
entropy bonus is touched: they keep TRL's own weight for the `loss_type`.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from packaging.version import Version
from torch import Tensor

_VERSION = Version(version("trl"))
# Before trl 1.9.1, TRL divides by the tokens of the whole generation batch even when that spans several optimiser steps.
_RESCALES_TOKEN_COUNT = Version("1.9.1") <= _VERSION
# Before trl 1.10, `luspo` with a (B, T) loss averages over padding.
LUSPO_NEEDS_SEQUENCE_LEVEL = Version("1.10") > _VERSION

PER_ROW = ("grpo", "sapo")
PER_TOKEN_COUNT = ("dapo", "cispo", "vespo")
KNOWN = (*PER_ROW, "dr_grpo", "luspo", *PER_TOKEN_COUNT)


def trl_weight(trainer, mask_BT: Tensor, num_items: Tensor | float) -> Tensor:
    """w_trl, broadcastable to (B, T): what `trainer.loss_type` gives each token of this micro-batch.

    `num_items` is TRL's `num_items_in_batch` (learning tokens of the generation batch, all ranks), at least 1.
    """
    rows, training = mask_BT.shape[0], trainer.model.training
    steps = trainer.current_gradient_accumulation_steps if training else 1
    lengths_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1).float()
    one = torch.ones_like(lengths_B1)
    if trainer.loss_type in PER_ROW:
        return one / (rows * steps * lengths_B1)
    if trainer.loss_type == "dr_grpo":
        return one / (rows * steps * trainer.max_completion_length)
    if trainer.loss_type == "luspo":
        return one / (rows * steps)
    share = steps / trainer.args.steps_per_generation if training and _RESCALES_TOKEN_COUNT else 1.0
    return one * trainer.accelerator.num_processes / (num_items * share)


def advantages_for_trl(
    trainer, advantages_BT: Tensor, weights_BT: Tensor, mask_BT: Tensor, num_items: Tensor | float
) -> Tensor:
    """The advantages to hand to TRL: (B, T), or (B,) when TRL's ratio is per sequence. 0 at masked tokens."""
    ranks = trainer.accelerator.num_processes
    scaled_BT = advantages_BT * weights_BT * ranks / trl_weight(trainer, mask_BT, num_items)
    if trainer.importance_sampling_level != "sequence":
        return scaled_BT
    # One ratio per row wants one advantage per row; `refuse` made sure the row is constant.
    return scaled_BT.sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)
