"""Weights that are too coarse for the updates they get."""

from __future__ import annotations

from typing import Any

import torch

# The largest relative step that rounding to the nearest may swallow: half the distance between neighbours.
SWALLOWED = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def coarse_weights(dtypes: set[Any], rate: float) -> str | None:
    """A warning where weights of these dtypes are trained in full; None where all are fine enough. rate: the learning rate."""
    coarse = next((dtype for dtype in SWALLOWED if dtype in dtypes), None)
    if coarse is None:
        return None
    name = str(coarse).removeprefix("torch.")
    return (
        f"warning  {name} weights are trained in full: an update below 1/{1 / SWALLOWED[coarse]:.0f} of a weight is lost, which "
        f"at a learning rate of {rate:g} is that of every weight above {rate / SWALLOWED[coarse]:.1g}. model.dtype=float32 "
        "keeps them, and trainer.bf16=true still computes in bfloat16."
    )
