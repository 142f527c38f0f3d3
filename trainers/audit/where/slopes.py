"""How the log-prob of each sampled token changes along a direction in the space of parameters: <grad log p, u> for all tokens at once.

By central differences: two passes forward, whatever the model is made of. The step is chosen so that the log-probs change by about
`CHANGE` where they change most: the error of the difference is of second order in that, and that of float32 log-probs is small
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

CHANGE = 0.03
_TRIES = 4


def slopes_BT(
    logps: Callable[[], Tensor], parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], mask_BT: Tensor
) -> Tensor:
    """(B, T) float64, 0 at masked tokens. logps: (B, T) of the policy as it is when called. The parameters are left as they were, to
    the bit.

    Raises:
        ValueError: the log-probs do not move, or are no numbers, however far the policy is moved.
    """
    size = float(torch.stack([u.double().square().sum() for u in direction]).sum().sqrt())
    if size == 0.0 or not mask_BT.any():
        return torch.zeros(mask_BT.shape, dtype=torch.float64)
    before = [parameter.detach().clone() for parameter in parameters]
    whole = float(torch.stack([p.double().square().sum() for p in before]).sum().sqrt())
    step = 1e-3 * max(whole, 1.0) / size
    try:
        for _ in range(_TRIES):
            up_BT = _moved(logps, parameters, before, direction, step)
            down_BT = _moved(logps, parameters, before, direction, -step)
            change_BT = (up_BT.double() - down_BT.double()).masked_fill(~mask_BT, 0.0)
            most = float(change_BT.abs().max())
            if CHANGE / 4 < most < CHANGE * 4:
                return change_BT / (2 * step)
            step *= min(max(CHANGE / most, 1e-3), 1e3) if 0.0 < most < float("inf") else 0.1 if most else 1e3
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
    raise ValueError("the log-probs of the policy do not follow a small change of its parameters: compute in float32.")


def _moved(logps, parameters, before, direction, step: float) -> Tensor:
    with torch.no_grad():
        for parameter, value, u in zip(parameters, before, direction, strict=True):
            parameter.copy_(value + step * u.to(value))
    return logps().cpu()
