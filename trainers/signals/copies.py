"""Copies of a policy: out of reach of what was put on it, frozen, and moved after it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def unpatched(model: Any) -> Any:
    """A deep copy of its own: whatever was put on an instance in the place of a class's `forward` stays behind."""
    made = copy.deepcopy(model)
    for module in made.modules():
        vars(module).pop("forward", None)
        vars(module).pop("_original_forward", None)
    return made


def frozen(model: Any) -> Any:
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = None
    return model.eval()


def follow(model: Any, policy: Any, decay: float) -> None:
    """Moves a copy of the policy towards it: new = decay old + (1 - decay) policy. Buffers are taken over."""
    with torch.no_grad():
        theirs = dict(policy.named_parameters())
        for name, parameter in model.named_parameters():
            parameter.lerp_(theirs[name].detach().to(parameter), 1 - decay)
        buffers = dict(policy.named_buffers())
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def weights_of(model: Any, policy: Any) -> dict[str, Tensor]:
    """A copy's weights where the policy trains, by name."""
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name in trained}


def put_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Puts back what `weights_of` gave."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
