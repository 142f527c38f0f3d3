"""Entropies and sums of squared probabilities off TRL's own forward pass, which yields neither while a batch is scored.

Where TRL fuses the language head, no logits are ever whole: its head is asked for one output more for the time of the pass.
Before that (trl 1.8) the logits are there and are read.

Shapes: S tokens of prompt and completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.trainer import utils as trl_utils

from trainers.model.adapters import is_adapted

_add_fused_head = getattr(trl_utils, "add_fused_lm_head", None)


@contextmanager
def catching_sum_sq(policy: Any, width: int, temperature: float, in_float32: bool) -> Iterator[list[Tensor]]:
    """Around a forward pass of TRL's: a list of (b, width) sums of squared probabilities, one for each chunk of rows.

    Args:
        policy: the model, unwrapped. in_float32: TRL's `cast_lm_head_to_fp32`.
    """
    inner = policy.get_base_model() if is_adapted(policy) else policy
    own, sums = vars(inner).get("forward"), []
    if _add_fused_head is not None:
        outputs = ("log_probs", "entropy", "log_sum_sq_probs")
        _add_fused_head(inner, temperature=temperature, cast_lm_head_to_fp32=in_float32, outputs=outputs)
    forward = inner.forward

    def watched(*args, **kwargs):
        output = forward(*args, **kwargs)
        sums.append(_sum_sq_of(output, width, temperature))
        return output

    inner.forward = watched  # not a hook: an adapter calls `forward` itself
    try:
        yield sums
    finally:
        if own is None:
            del inner.forward
        else:
            inner.forward = own


def _sum_sq_of(output: Any, width: int, temperature: float) -> Tensor:
    fused_BS = getattr(output, "log_sum_sq_probs", None)
    if fused_BS is not None:
        return fused_BS[:, -width:].exp()
    return torch.stack([sum_of_squares(row_SV, temperature) for row_SV in output.logits[:, :-1][:, -width:]])


def sum_of_squares(logits_SV: Tensor, temperature: float) -> Tensor:
    """(S,) sum over the vocabulary of the squared probabilities; a row at a time, since the square needs room of its own."""
    scaled_SV = (logits_SV if logits_SV.dtype == torch.float64 else logits_SV.float()) / temperature
    return (torch.logsumexp(2 * scaled_SV, dim=-1) - 2 * torch.logsumexp(scaled_SV, dim=-1)).exp()
