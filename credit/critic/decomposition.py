"""Return decomposition by ridge regression: what each token contributed to the reward of its completion, learned.

    R_b ~ level(group) + sum_t u[b,t],      u[b,t] = w . phi(token, position)

with fixed random features phi (random Fourier features of a random vector for each token id and of sines of its position) and
one ridge regression of whole completions, centred within each prompt's group, over all completions seen. No learning rate
and no lag: the regression does not see the level, which moves as the policy improves. The sums it needs are sums over rows,
so the fit is the same however a batch is cut.

How far the contributions are shrunk is measured on each batch before it is learned from: they are scaled by the slope, in
[0, 1], of the centred rewards over their predictions. Where nothing can be predicted the credit is leave-one-out.

Sources: RUDDER, Arjona-Medina et al. 2019, arXiv 1806.07857; least-squares return decomposition as in Ren et al. 2022,
arXiv 2111.13485, equation 6; random features, Rahimi and Recht 2007.

From the contributions follows a value: what the row has earned so far, plus what the others of its group earned from here on,

    V(s_t) = sum_{s<t} u[b,s]  +  mean over j != b of ( R_j - sum_{s<t} u[j,s] )

which knows nothing of the row's own present or future: a baseline, unbiased whatever w is, if w comes from earlier batches.

Shapes: D random features, E dimensions of a token's random vector, F waves of the position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from credit.reduce import group_centred, group_count, group_index, sum_by_group
from credit.returns import discounted_suffix_sums, last_token_rewards
from credit.spread import spans

_TOKEN_DIMS, _POSITION_DIMS, _LONGEST_PERIOD = 64, 32, 1000.0
# Features are made for about this many numbers at a time.
_PIECE = 2**24
_SHRINKAGE_MEMORY = 0.9  # weight of earlier batches in the slope, per batch


class ReturnDecomposition(nn.Module):
    """The regression and its state. All buffers are saved; nothing has a gradient.

    Args:
        vocabulary: number of token ids.
        features: D of phi.
        ridge: share of the rewards' variance within groups that is taken for noise; more is slower and steadier.
        forgetting: weight of what was seen before, per batch, in (0, 1].
        seed: of the random features.
    """

    token_VE: Tensor
    token_ED: Tensor
    position_FD: Tensor
    phase_D: Tensor
    gram_DD: Tensor
    moment_D: Tensor
    count: Tensor
    weights_D: Tensor
    agreement_2: Tensor

    def __init__(
        self, vocabulary: int, features: int = 512, ridge: float = 0.01, forgetting: float = 1.0, seed: int = 0
    ):
        super().__init__()
        self.ridge, self.forgetting = ridge, forgetting
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        # Rebuilt from the seed, so they are not saved.
        self.register_buffer("token_VE", normal(vocabulary, _TOKEN_DIMS), persistent=False)
        self.register_buffer("token_ED", normal(_TOKEN_DIMS, features) / math.sqrt(_TOKEN_DIMS), persistent=False)
        self.register_buffer(
            "position_FD", normal(_POSITION_DIMS, features) / math.sqrt(_POSITION_DIMS), persistent=False
        )
        self.register_buffer("phase_D", 2 * math.pi * torch.rand(features, generator=generator), persistent=False)
        self.register_buffer("gram_DD", torch.zeros(features, features, dtype=torch.float64))
        self.register_buffer("moment_D", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weights_D", torch.zeros(features, dtype=torch.float64))
        self.register_buffer(
            "agreement_2", torch.zeros(2, dtype=torch.float64)
        )  # sums of prediction x truth, prediction^2

    @property
    def shrinkage(self) -> Tensor:
        """0-d in [0, 1]: slope of the centred rewards over their predictions, on batches not yet learned from; at first 0."""
        return (self.agreement_2[0] / self.agreement_2[1].clamp(min=1e-30)).clamp(0.0, 1.0)

    def contributions(self, token_ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions u (B, T) under the present fit, 0 at masked tokens, and row features X = sum_t phi (B, D), float64."""
        contributions, sums = [], []
        position_TD, shrunk_D = self._positions(token_ids_BT.shape[1]), self.weights_D * self.shrinkage
        rows = max(1, _PIECE // max(1, position_TD.numel()))
        for ids_bT, mask_bT in zip(token_ids_BT.split(rows), mask_BT.split(rows), strict=True):
            phi_bTD = torch.cos(self.token_VE[ids_bT] @ self.token_ED + position_TD).masked_fill(
                ~mask_bT[..., None], 0.0
            )
            contributions.append((phi_bTD @ shrunk_D.float()).double())
            sums.append(phi_bTD.sum(dim=1, dtype=torch.float64))
        return torch.cat(contributions), torch.cat(sums)

    def fit(self, sums_BD: Tensor, outcomes_B: Tensor, group_B: Tensor) -> None:
        """Adds whole completions to the regression and solves it. Rows with NaN outcome are left out, and so is a group of
        one: centred, it says nothing."""
        scorable_B = ~outcomes_B.isnan()
        index_B, groups = group_index(group_B)
        count_B = group_count(outcomes_B.double(), group_B)
        centred_B = group_centred(outcomes_B.double(), group_B)
        sums_BD = sums_BD * scorable_B[:, None]
        mean_BD = sum_by_group(sums_BD, index_B, groups) / count_B.clamp(min=1)[:, None]
        centred_BD = (sums_BD - mean_BD) * scorable_B[:, None]
        predicted_B = centred_BD @ self.weights_D
        agreed = torch.stack([(predicted_B * centred_B).sum(), predicted_B.square().sum()])
        self.agreement_2.mul_(_SHRINKAGE_MEMORY).add_(agreed)
        self.gram_DD.mul_(self.forgetting).add_(centred_BD.T @ centred_BD)
        self.moment_D.mul_(self.forgetting).add_(centred_BD.T @ centred_B)
        self.count.mul_(self.forgetting).add_(((count_B > 1) & scorable_B).sum())
        mean_square = self.gram_DD.trace() / self.count.clamp(min=1)
        if mean_square <= 0:
            return
        damped_DD = self.gram_DD + self.ridge * mean_square * torch.eye(len(self.moment_D), device=index_B.device)
        solved = torch.cholesky_solve(self.moment_D[:, None], torch.linalg.cholesky(damped_DD))
        self.weights_D.copy_(solved.squeeze(1))

    def _positions(self, width: int) -> Tensor:
        """(T, D) part of the features that the position decides, phase included."""
        periods = torch.logspace(math.log10(2.1), math.log10(_LONGEST_PERIOD), _POSITION_DIMS // 2)
        angles = torch.arange(width)[:, None] * (2 * math.pi / periods)
        waves_TF = math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1).to(self.position_FD.device)
        return waves_TF @ self.position_FD + self.phase_D


def values_of(
    contributions_BT: Tensor,
    token_rewards_BT: Tensor,
    advantages_B: Tensor,
    rewards_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
) -> Tensor:
    """(B, T) float64 V(s_t): earned so far, plus what the other scorable rows of the group earned from t on. 0 if masked.

    The outcome minus this value is `credit.spread.spans` of the contributions, the rest of the outcome standing at the last
    token: without contributions it is leave-one-out exactly. A group with one scorable row has credit 0, so V is its outcome.

    Args:
        contributions_BT: u. token_rewards_BT: the outcome by token (`Strategy.outcome`). advantages_B: what the baseline made of
            the rewards, for rows without learning tokens, which count in their group. rewards_B: NaN marks unscorable rows.
    """
    contributions_BT = contributions_BT.double().masked_fill(~mask_BT, 0.0)
    rewards_BT = token_rewards_BT.double().masked_fill(~mask_BT, 0.0)
    earned_BT = rewards_BT + contributions_BT - last_token_rewards(contributions_BT.sum(dim=1), mask_BT)
    earned_BT[:, 0] += advantages_B * ~mask_BT.any(dim=1)
    to_go_BT = discounted_suffix_sums(rewards_BT, 1.0)
    return (to_go_BT - spans(earned_BT, rewards_B, group_B, mask_BT)).masked_fill(~mask_BT, 0.0)
