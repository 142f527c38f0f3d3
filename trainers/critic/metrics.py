"""What a critic is worth, in numbers: sums over micro-batches and ranks, put into TRL's metrics once for each step.

critic/loss                 weighted mean of the critic's loss
critic/explained_variance   1 - Var(G - V) / Var(G) over learning tokens, V from before the fit on them, G the target
critic/value_start, _end    mean V before the first and before the last token
critic/grad_norm            norm of the critic's gradient before clipping
critic/noise_reward, _group, _credit
                            sum (w A)^2 (1 - p)^2 with A the reward, the reward minus the others' mean, the strategy's credit.
                            (1 - p)^2 is the least a token's squared logit gradient can be. A baseline leaves the expected
                            gradient alone, so the ratios of these are, up to that common signal, ratios of noise to signal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from credit.returns import first_token

_SUMS = ("weight", "loss", "g", "g2", "e", "e2", "rows", "start", "end", "reward", "group", "credit")


class CriticMetrics:
    def __init__(self, trainer):
        self._trainer = trainer
        self._sums: Tensor | None = None

    def add(self, **sums: Tensor) -> None:
        """Adds sums of one micro-batch; names as in `_SUMS`."""
        new = torch.stack([torch.as_tensor(sums[name]).detach().double().reshape(()).cpu() for name in _SUMS])
        self._sums = new if self._sums is None else self._sums + new

    def flush(self, mode: str, **more: float) -> None:
        """Reduces over ranks and writes. Every rank must call it equally often."""
        if self._sums is None:
            return
        accelerator = self._trainer.accelerator
        total = accelerator.reduce(self._sums.to(accelerator.device, torch.float32), reduction="sum").tolist()
        self._sums = None
        s = dict(zip(_SUMS, total, strict=True))
        weight, rows = s["weight"] or math.nan, s["rows"] or math.nan
        variance = s["g2"] / weight - (s["g"] / weight) ** 2
        left = s["e2"] / weight - (s["e"] / weight) ** 2
        found = {
            "loss": s["loss"] / weight,
            # Targets that are all alike have a variance of rounding errors, and nothing to explain.
            "explained_variance": 1 - left / variance if variance > 1e-6 * s["g2"] / weight else math.nan,
            "value_start": s["start"] / rows,
            "value_end": s["end"] / rows,
            "noise_reward": s["reward"],
            "noise_group": s["group"],
            "noise_credit": s["credit"],
            **more,
        }
        for name, value in found.items():
            self._trainer._metrics[mode][f"critic/{name}"].append(value)


def sums_of(
    loss_BT: Tensor,
    targets_BT: Tensor,
    values_BT: Tensor,
    fit_weights_BT: Tensor,
    mask_BT: Tensor,
    noise: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The sums of one micro-batch. `noise`: for reward, group and credit the (B, T) update w A (1 - p)."""
    w, error = fit_weights_BT, targets_BT - values_BT
    positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    has_tokens_B = mask_BT.any(dim=1)
    last_B1 = (mask_BT * positions_T).amax(dim=1, keepdim=True)
    return {
        "weight": w.sum(),
        "loss": (w * loss_BT).sum(),
        "g": (w * targets_BT).sum(),
        "g2": (w * targets_BT.square()).sum(),
        "e": (w * error).sum(),
        "e2": (w * error.square()).sum(),
        "rows": has_tokens_B.sum(),
        "start": (values_BT.gather(1, first_token(mask_BT)).squeeze(1) * has_tokens_B).sum(),
        "end": (values_BT.gather(1, last_B1).squeeze(1) * has_tokens_B).sum(),
        **{name: update_BT.square().sum() for name, update_BT in noise.items()},
    }
