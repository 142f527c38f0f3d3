"""Critics for the doors benchmarks: what each can see, and how it is fitted. Values first, then `fit` on the same rows.

`states_BTW[:, t]` is the state before token t.

Shapes: W width of the policy's states, D features, N entries of a fit, O outputs of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from decoder import Decoder, V
from torch import Tensor, nn

from credit.critic.decomposition import ReturnDecomposition, values_of
from credit.returns import last_token_rewards

GROUP = 8


class Shipped:
    """credit.critic.decomposition: V(s_t) = what the tokens so far are held to have earned + what the group earned from there on.

    u = w phi(token, position) with fixed random features, by ridge regression of whole completions, centred in the group.
    """

    def __init__(self, vocabulary: int):
        self.decomposition = ReturnDecomposition(vocabulary)

    def values(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> Tensor:
        mask_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        given_BT, self.sums_BD = self.decomposition.contributions(tokens_BT, mask_BT)
        outcome_BT = last_token_rewards(rewards_B, mask_BT)
        return values_of(given_BT, outcome_BT, rewards_B, rewards_B, _groups(rewards_B), mask_BT).float()

    def fit(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> None:
        self.decomposition.fit(self.sums_BD, rewards_B, _groups(rewards_B))


class Decomposition:
    """The same regression with other features or another level: what these two choices are worth.

    Args:
        features: tokens (B, T) and states (B, T, W) -> (B, T, D), for token t what it may add.
        ridge: share of the variance of returns that no decomposition explains.
        forget: factor on everything seen, once a step.
        level: "group": leave-one-out over the rows of the group at each position; "state": ridge on states, refitted
            with memory `rest_memory` (in steps).
    """

    def __init__(
        self, features: Callable[[Tensor, Tensor], Tensor], ridge=0.01, forget=1.0, level="group", rest_memory=4.0
    ):
        self.features, self.ridge, self.forget, self.level = features, ridge, forget, level
        self.gram_DD = self.cross_D = self.weights_D = self.rest_W = None
        self.rows, self.rest_forget, self.agreed, self.predicted = 0.0, 1 - 1 / rest_memory, 0.0, 1e-30

    def increments(self, tokens_BT: Tensor, states_BTW: Tensor) -> Tensor:
        """(B, T) u: what each token is held to have earned."""
        features_BTD = self.features(tokens_BT, states_BTW)
        if self.weights_D is None:
            return features_BTD.new_zeros(features_BTD.shape[:2])
        shrinkage = min(max(self.agreed / self.predicted, 0.0), 1.0)
        return shrinkage * (features_BTD @ self.weights_D)

    def values(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> Tensor:
        given_BT = self.increments(tokens_BT, states_BTW)
        before_BT = given_BT.cumsum(1) - given_BT
        if self.level == "group":
            left_BT = (rewards_B[:, None] - before_BT).unflatten(0, (-1, GROUP))
            others_BT = (left_BT.sum(1, keepdim=True) - left_BT) / (GROUP - 1)
            return before_BT + others_BT.flatten(0, 1)
        return before_BT if self.rest_W is None else before_BT + _with_one(states_BTW) @ self.rest_W

    def fit(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> None:
        summed_BD = centred(self.sums(self.features(tokens_BT, states_BTW)).double())
        returns_B = centred(self.returns(rewards_B).double())
        if self.weights_D is not None:
            predicted_B = summed_BD @ self.weights_D.double()
            self.agreed = 0.9 * self.agreed + (predicted_B @ returns_B).item()
            self.predicted = 0.9 * self.predicted + (predicted_B @ predicted_B).item()
        gram_DD, cross_D = summed_BD.T @ summed_BD, summed_BD.T @ returns_B
        if self.gram_DD is not None:
            gram_DD, cross_D = gram_DD + self.forget * self.gram_DD, cross_D + self.forget * self.cross_D
        self.gram_DD, self.cross_D, self.rows = gram_DD, cross_D, self.forget * self.rows + len(returns_B)
        damped_DD = gram_DD + self.ridge * gram_DD.trace() / self.rows * torch.eye(len(gram_DD), dtype=gram_DD.dtype)
        factor_DD = torch.linalg.cholesky(damped_DD)
        self.weights_D = torch.cholesky_solve(cross_D[:, None], factor_DD)[:, 0].float()
        if self.level == "state":
            self._fit_rest(tokens_BT, states_BTW, rewards_B)

    def sums(self, features_BTD: Tensor) -> Tensor:
        """Rows of the regression, whole groups after one another."""
        return features_BTD.sum(1)

    def returns(self, rewards_B: Tensor) -> Tensor:
        return rewards_B

    def _fit_rest(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> None:
        given_BT = self.increments(tokens_BT, states_BTW)
        left_N = (rewards_B[:, None] - given_BT.cumsum(1) + given_BT).flatten().double()
        seen_NW = _with_one(states_BTW).flatten(0, 1).double()
        gram_WW, cross_W = seen_NW.T @ seen_NW / len(left_N), seen_NW.T @ left_N / len(left_N)
        if self.rest_W is not None:
            gram_WW, cross_W = gram_WW + self.rest_forget * self.rest_gram, cross_W + self.rest_forget * self.rest_cross
        self.rest_gram, self.rest_cross = gram_WW, cross_W
        damping_W = torch.full((len(cross_W),), 0.01, dtype=torch.float64)
        damping_W[-1] = 0.0
        self.rest_W = torch.linalg.solve(gram_WW + damping_W.diag(), cross_W).float()


class ByGradient:
    """V from a small network by Adam on the squared error at every position; returns scaled by their first steps.

    Args:
        raw: the network, tokens and states -> (B, T).
        passes, memory: gradient steps for each rollout, and from how many recent rollouts they draw. The first of them
            takes the newest rollout.
    """

    def __init__(self, network: nn.Module, rate: float, passes: int = 1, memory: int = 1):
        self.network, self.passes, self.memory = network, passes, memory
        self.optimiser = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=rate)
        self.draws, self.kept, self.mean, self.spread, self.seen = torch.Generator().manual_seed(0), [], 0.0, 1.0, 0

    @torch.no_grad()
    def values(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> Tensor:
        return self.mean + self.spread * self.network(tokens_BT, states_BTW)

    def fit(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> None:
        if not self.seen:
            self.mean, self.spread, self.seen = rewards_B.mean().item(), max(rewards_B.std().item(), 1e-3), 1
        self.kept = [*self.kept, (tokens_BT, states_BTW, rewards_B)][-self.memory :]
        for number in range(self.passes):
            which = len(self.kept) - 1 if number == 0 else int(torch.randint(len(self.kept), (), generator=self.draws))
            tokens, states, returns_B = self.kept[which]
            targets_B1 = (returns_B[:, None] - self.mean) / self.spread
            loss = (self.network(tokens, states) - targets_B1).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


class StateHead(nn.Module):
    """V from the state before each token: linear, or one hidden layer; `running` adds a sum over the states so far."""

    def __init__(self, width: int, inner: int = 0, running: bool = False):
        super().__init__()
        outputs = 2 if running else 1
        self.inner = nn.Sequential(nn.Linear(width, inner), nn.GELU()) if inner else nn.Identity()
        self.readout, self.running = nn.Linear(inner or width, outputs), running
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, _tokens_BT: Tensor, states_BTW: Tensor) -> Tensor:
        read_BTO = self.readout(self.inner(states_BTW))
        if not self.running:
            return read_BTO[..., 0]
        return read_BTO[..., 0] + read_BTO[..., 1].cumsum(1) / math.sqrt(states_BTW.shape[1])


class Separate(nn.Module):
    """V by a decoder of its own, of the policy's shape, read out linearly. All of it is trained, or, with `rank` > 0, a
    low-rank adapter (LoRA) on each of its layers' matrices, the rest being frozen as it was initialised."""

    def __init__(self, rank: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            decoder = Decoder()
            width = decoder.norm.normalized_shape[0]
            decoder.head = nn.Identity()
            self.decoder, self.readout, self.rank = decoder, nn.Linear(width, 1), rank
            nn.init.zeros_(self.readout.weight)
            self.adapted = [name for name, weight in decoder.layers.named_parameters() if rank and weight.dim() == 2]
            shapes = [decoder.layers.get_parameter(name).shape for name in self.adapted]
            self.down = nn.ParameterList(torch.randn(rank, columns) / math.sqrt(columns) for _, columns in shapes)
            self.up = nn.ParameterList(torch.zeros(rows, rank) for rows, _ in shapes)
        decoder.requires_grad_(not rank)

    def forward(self, tokens_BT: Tensor, _states_BTW: Tensor) -> Tensor:
        prompt_B1 = torch.full_like(tokens_BT[:, :1], V)
        changed = {
            f"layers.{name}": self.decoder.layers.get_parameter(name) + up @ down
            for name, up, down in zip(self.adapted, self.up, self.down, strict=True)
        }
        seen_BT = torch.cat([prompt_B1, tokens_BT[:, :-1]], 1)
        return self.readout(torch.func.functional_call(self.decoder, changed, (seen_BT,)))[..., 0]


class StateFeatures:
    """cos(W h + b) of the layer-normed state after each token: random features that move as the policy does."""

    def __init__(self, width: int, features: int = 512, seed: int = 0):
        draws = torch.Generator().manual_seed(seed)
        self.of_state = torch.randn(width, features, generator=draws) / math.sqrt(width)
        self.phase_D = torch.rand(features, generator=draws) * 2 * math.pi

    def __call__(self, tokens_BT: Tensor, states_BTW: Tensor) -> Tensor:
        # The decoder of the benchmark does not compute the state after the last token: that token gets nothing.
        after_BTW = nn.functional.layer_norm(states_BTW[:, 1:], states_BTW.shape[-1:])
        return nn.functional.pad(torch.cos(after_BTW @ self.of_state + self.phase_D), (0, 0, 0, 1))


class Positions:
    """One feature for each token at each position: the table that random features stand in for."""

    def __init__(self, vocabulary: int):
        self.vocabulary = vocabulary

    def __call__(self, tokens_BT: Tensor, states_BTW: Tensor) -> Tensor:
        positions, width = torch.arange(tokens_BT.shape[1]), tokens_BT.shape[1] * self.vocabulary
        return nn.functional.one_hot(positions * self.vocabulary + tokens_BT, width).float()


def _groups(rewards_B: Tensor) -> Tensor:
    return torch.arange(len(rewards_B)) // GROUP


def centred(values: Tensor) -> Tensor:
    """Minus the mean of each GROUP rows in turn."""
    by_group = values.unflatten(0, (-1, GROUP))
    return (by_group - by_group.mean(1, keepdim=True)).flatten(0, 1)


def _with_one(states_BTW: Tensor) -> Tensor:
    return nn.functional.pad(states_BTW, (0, 1), value=1.0)
