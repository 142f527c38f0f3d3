"""A linear value head without a learning rate: recursive least squares on hidden states, level and shrinkage apart.

    V(s) = level + shrinkage * w . (x - centre),      x the state before the token (and, `running`, the sum of the states so far)

w solves a ridge regression over the optimiser batches so far, older ones forgotten geometrically. `level` and `centre` are means
of the last batches only, so they follow a policy that improves. `shrinkage`, in [0, 1], is the slope of the outcomes over the
predictions on batches not yet learned from: what does not predict does not enter. All of it follows from sums over tokens, so
the fit is the same however a batch is cut. Source: least-squares value functions, Bradtke and Barto 1996; Boyan 2002.

Shapes: N visible tokens of a batch, X features of a token (D, or 2 D with `running`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from credit.critic.head import LEVEL_MEMORY

_SHRINKAGE_MEMORY = 0.9


class RidgeHead(nn.Module):
    """The regression and its state. All buffers are saved; nothing has a gradient.

    Args:
        width: of the hidden states, D.
        ridge: penalty as a share of the mean variance of the features.
        forgetting: weight of earlier batches, per batch, in (0, 1].
        running: features are the state and the running sum of states, 2 D in all.
    """

    gram_XX: Tensor
    moment_X: Tensor
    sums_X: Tensor
    totals_2: Tensor
    weights_X: Tensor
    centre_X: Tensor
    level_2: Tensor
    agreement_2: Tensor

    def __init__(self, width: int, ridge: float = 0.1, forgetting: float = 0.95, running: bool = False):
        super().__init__()
        self.ridge, self.forgetting, self.running = ridge, forgetting, running
        size = 2 * width if running else width
        for name, shape in (
            ("gram_XX", (size, size)),
            ("moment_X", (size,)),
            ("sums_X", (size,)),
            ("totals_2", (2,)),  # weight, weighted outcomes
            ("weights_X", (size,)),
            ("centre_X", (size,)),
            ("level_2", (2,)),  # weight, weighted outcomes of the last batches
            ("agreement_2", (2,)),  # sums of prediction x outcome and of prediction^2, centred
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    @property
    def shrinkage(self) -> Tensor:
        """0-d in [0, 1]; 0 before anything was predicted."""
        return (self.agreement_2[0] / self.agreement_2[1].clamp(min=1e-30)).clamp(0.0, 1.0)

    def features(self, states_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        """(B, T, X) float64; padding and what follows it contribute nothing to a running sum."""
        states_BTD = states_BTD.double()
        if not self.running:
            return states_BTD
        read_BTD = states_BTD.masked_fill(~visible_BT[..., None], 0.0)
        read_BTD = torch.cat([torch.zeros_like(read_BTD[:, :1]), read_BTD[:, 1:]], dim=1)
        return torch.cat([states_BTD, read_BTD.cumsum(dim=1)], dim=-1)

    def forward(self, states_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        """(B, T) float32 values."""
        level = self.level_2[1] / self.level_2[0].clamp(min=1e-30)
        return (level + self.shrinkage * self._deviation(self.features(states_BTD, visible_BT))).float()

    def sums(self, states_BTD: Tensor, visible_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor) -> Tensor:
        """One flat vector of all that `learn` needs from some rows; add those of all micro-batches and ranks."""
        x_NX = self.features(states_BTD, visible_BT).flatten(0, 1)
        g_N, w_N = targets_BT.flatten().double(), weights_BT.flatten().double()
        kept = w_N > 0
        x_NX, g_N, w_N = x_NX[kept], g_N[kept], w_N[kept]
        weighted_NX, p_N = x_NX * w_N[:, None], self._deviation(x_NX)
        scalars = torch.stack([w_N.sum(), w_N @ g_N, w_N @ p_N, (w_N * p_N) @ g_N, (w_N * p_N) @ p_N])
        return torch.cat([scalars, weighted_NX.sum(0), weighted_NX.T @ g_N, (weighted_NX.T @ x_NX).flatten()])

    def learn(self, sums: Tensor) -> None:
        """One optimiser batch; `sums` over all of its rows. A batch without weight teaches nothing."""
        size = len(self.moment_X)
        scalars, x_X, moment_X, gram = sums.split([5, size, size, size * size])
        weight, g, p, pg, pp = scalars
        if weight <= 0:
            return
        agreed = torch.stack([pg / weight - p * g / weight**2, pp / weight - (p / weight) ** 2])
        self.agreement_2.mul_(_SHRINKAGE_MEMORY).add_(agreed)
        before = self.level_2[0].clone()
        self.level_2.mul_(LEVEL_MEMORY).add_(torch.stack([weight, g]))
        share = weight / (LEVEL_MEMORY * before + weight)
        self.centre_X.lerp_(x_X / weight, share)
        self.gram_XX.mul_(self.forgetting).add_(gram.view(size, size))
        self.moment_X.mul_(self.forgetting).add_(moment_X)
        self.sums_X.mul_(self.forgetting).add_(x_X)
        self.totals_2.mul_(self.forgetting).add_(torch.stack([weight, g]))
        total, mean_X = self.totals_2[0], self.sums_X / self.totals_2[0]
        covariance_XX = self.gram_XX / total - torch.outer(mean_X, mean_X)
        covariance_X = self.moment_X / total - mean_X * self.totals_2[1] / total
        penalty = self.ridge * covariance_XX.trace() / size
        if penalty <= 0:
            return
        damped_XX = covariance_XX + penalty * torch.eye(size, dtype=torch.float64, device=sums.device)
        self.weights_X.copy_(torch.linalg.solve(damped_XX, covariance_X))

    def _deviation(self, x: Tensor) -> Tensor:
        return (x - self.centre_X) @ self.weights_X
