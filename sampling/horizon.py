"""Long Horizon Temperature Scaling: the weights that make plain sampling from a fine-tuned model approach p_alpha.

To minimise KL(p_alpha || q), maximise E_{x~p}[p(x)^(alpha-1) log q(x)]. Token by token, the part of the weight before t
depends on the prefix only and does not move the best conditional, so it is dropped; looking H tokens ahead,

    log W_t = (alpha - 1) * (S_t - c_t),   S_t = sum_{s=t}^{min(t+H-1, L)} log p(x_s|x_<s)

H = 1 gives token temperature, H >= L sequence temperature; sampling/exact.py enumerates the optimum in between. c_t
only has to keep the weights near 1; two choices:
    window     c_t = mean of S_t over texts that reach t. A function of t alone, so the optimum does not move.
    position   c_t = sum_{s=t}^{min(t+H-1, L)} b_s, b_s the mean of log p at position s: as published. With texts of
               different lengths it is not neutral: the target is multiplied by exp(-(alpha - 1) * sum_s b_s), a bonus
               for longer texts when alpha > 1 (b_s is negative).

Source: Shih, Sadigh, Ermon, "Long Horizon Temperature Scaling", ICML 2023, arXiv 2302.03686; "window" is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BASELINES = ("window", "position", "none")


def horizon_sums(values_BT: Tensor, mask_BT: Tensor, horizon: int | None) -> Tensor:
    """(B, T) double: each position's value plus those of the next horizon - 1 positions of its row; 0 at masked positions. Row
    b's tokens stand in its first positions; values are arbitrary where masked; None: to the end."""
    kept_BT = values_BT.masked_fill(~mask_BT, 0.0).double()
    # A difference of sums from the end.
    rest_BT = kept_BT.flip(1).cumsum(1).flip(1)
    if horizon is not None and horizon < mask_BT.shape[1]:
        rest_BT = rest_BT - F.pad(rest_BT[:, horizon:], (0, horizon))
    return rest_BT.masked_fill(~mask_BT, 0.0)


def horizon_log_weights(
    logps_BT: Tensor, mask_BT: Tensor, alpha_B: Tensor, horizon: int | None, kind: str, baseline_T: Tensor | None
) -> Tensor:
    """(B, T) log W_t, 0 at masked positions, in the dtype of logps_BT.

    Args:
        logps_BT: log p of each token under the frozen model.
        alpha_B: 1 / tau of each row.
        horizon: H >= 1, or None.
        kind: "window", "position" or "none"; baseline_T: the mean of S_t, or b_s; not read for "none".
    """
    sums_BT = horizon_sums(logps_BT, mask_BT, horizon)
    if kind == "window":
        sums_BT = sums_BT - baseline_T
    if kind == "position":
        sums_BT = sums_BT - horizon_sums(baseline_T.expand_as(sums_BT), mask_BT, horizon)
    return ((alpha_B.double() - 1)[:, None] * sums_BT).masked_fill(~mask_BT, 0.0).to(logps_BT.dtype)


class PositionBaseline:
    """The mean, over all data so far, of something that texts have at each position; 0 where no text has been."""

    def __init__(self, width: int):
        self.sum_T = torch.zeros(width, dtype=torch.float64)
        self.count_T = torch.zeros(width, dtype=torch.float64)

    @property
    def is_empty(self) -> bool:
        return not bool(self.count_T.any())

    def value(self, width: int) -> Tensor:
        """(width,) means, float32."""
        mean_T = self.sum_T / self.count_T.clamp(min=1)
        return F.pad(mean_T, (0, max(0, width - len(mean_T))))[:width].float()

    def add(self, sum_T: Tensor, count_T: Tensor) -> None:
        """Sums and numbers of texts by position; longer ones than before widen the table."""
        extra = len(sum_T) - len(self.sum_T)
        if extra > 0:
            self.sum_T, self.count_T = (F.pad(x, (0, extra)) for x in (self.sum_T, self.count_T))
        self.sum_T[: len(sum_T)] += sum_T.double().cpu()
        self.count_T[: len(count_T)] += count_T.double().cpu()
