"""Alignment with the model's own likelihood, by enumeration: where the expected update of a strategy comes to rest.

The distribution q that maximises J(q) = E_q[log p] - beta KL(q || p) is p^alpha / Z with alpha = 1 + 1/beta: J(q) = beta (log Z -
KL(q || p^alpha/Z)). So the penalised reward log p - beta log(q/p) is the same number, beta log Z, for every text once q is there,
and every strategy that subtracts a mean has nothing left to spread, whatever its weights. TRL's own KL term is another thing: its
gradient is that of KL(p || q) at each token, over the texts that q writes.

Shape suffixes: S worlds (side by side), X texts, T tokens, C prefixes (sampling/tabular.py), K states of a policy (prefixes that
share a softmax), V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from credit import baseline as baselines
from credit.batch import Rollout
from credit.checks import member_name
from credit.strategy import Strategy
from sampling.exact import enumerate_texts
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index, prefixes

CENTRED = (baselines.group_mean, baselines.leave_one_out)


@dataclass(frozen=True)
class Way:
    """How a policy is aligned: a strategy (its `kl_in_reward` says where the KL penalty stands; false: TRL's term in the loss,
    with the strategy's weight, as the `loss_type` of that weight gives it), and beta."""

    strategy: Strategy
    beta: float

    @property
    def alpha(self) -> float:
        return 1 + 1 / self.beta


class Worlds:
    """All texts of S worlds of one shape, and a policy over them.

    Args:
        model: one table per world (its prompts). limit: longest text.
        state_C: which state a prefix belongs to; None: each is its own (a tabular policy, which can be any distribution).
            `by_last_token` makes policies that cannot.
    """

    def __init__(self, model: TabularModel, limit: int, state_C: Tensor | None = None):
        self.model, self.limit = model, limit
        self.state_C = torch.arange(prefixes(model.vocab_size, limit)) if state_C is None else state_C
        one = enumerate_texts(model, limit, 1.0)
        self.tokens_XT, self.mask_XT = one.tokens_XT, one.tokens_XT != PAD
        self.lengths_X = self.mask_XT.sum(1)
        self.node_XT = torch.zeros_like(self.tokens_XT)
        for t in range(limit):
            there_X = self.mask_XT[:, t]
            self.node_XT[there_X, t] = prefix_index(self.tokens_XT[there_X, :t], model.vocab_size)
        first_C = torch.stack([(self.state_C == k).nonzero()[0, 0] for k in range(int(self.state_C.max()) + 1)])
        self.start_SKV = model.logits_PCV[:, first_C]
        self.logp_SXT = self.logps(self.start_SKV)
        self.logp_SX = self.logp_SXT.sum(-1)

    def logps(self, theta_SKV: Tensor) -> Tensor:
        """(S, X, T) log q of each token; 0 after the end."""
        every_SCV = theta_SKV.log_softmax(-1)[:, self.state_C]
        return every_SCV[:, self.node_XT, self.tokens_XT.clamp(min=0)].masked_fill(~self.mask_XT, 0.0)

    def target_SX(self, alpha: float) -> Tensor:
        """p^alpha / Z."""
        return (alpha * self.logp_SX).softmax(-1)

    def objective(self, theta_SKV: Tensor, beta: float) -> Tensor:
        """(S,) J(q)."""
        logq_SX = self.logps(theta_SKV).sum(-1)
        return (logq_SX.exp() * (self.logp_SX - beta * (logq_SX - self.logp_SX))).sum(-1)

    def conditionals(self, law_SX: Tensor) -> Tensor:
        """(S, C, V) log-probabilities of a tabular policy that writes `law_SX`; 0 logits at prefixes that it never writes."""
        mass_SCV = self.counts(law_SX[..., None] * self.mask_XT, prefixes(self.model.vocab_size, self.limit))
        never_SC = mass_SCV.sum(-1) == 0
        return torch.where(never_SC[..., None], 1.0, mass_SCV).log().log_softmax(-1)

    def counts(self, mass_SXT: Tensor, states: int) -> Tensor:
        """(S, states, V) the mass of all tokens, by the state before them."""
        worlds, vocab = len(mass_SXT), self.model.vocab_size
        state_C = self.state_C if states == int(self.state_C.max()) + 1 else torch.arange(len(self.state_C))
        place_XT = state_C[self.node_XT] * vocab + self.tokens_XT.clamp(min=0)
        counts = mass_SXT.new_zeros(worlds, states * vocab)
        return counts.index_add_(1, place_XT.flatten(), mass_SXT.flatten(1)).view(worlds, states, vocab)


def by_last_token(vocab_size: int, limit: int) -> Tensor:
    """(C,) state of every prefix of a policy that sees the last token only; 0 is the beginning."""
    count = prefixes(vocab_size, limit)
    return torch.where(torch.arange(count) == 0, 0, (torch.arange(count) - 1) % vocab_size + 1)


def expected_update(worlds: Worlds, theta_SKV: Tensor, way: Way) -> Tensor:
    """(S, K, V) the expected gradient ascent direction in the logits, for groups so large that their means are exact.

    Raises:
        ValueError: a baseline whose expectation this does not know.
    """
    theta = theta_SKV.detach().requires_grad_()
    logq_SXT = worlds.logps(theta)
    q_SX = logq_SXT.detach().sum(-1).exp()
    weight_XT = _weights(worlds, way.strategy)
    rewards_SX = _rewards(worlds, logq_SXT.detach(), way)
    credit_SX = _centred(rewards_SX, q_SX) / _divisor(way.strategy, rewards_SX, q_SX)[:, None]
    total = (q_SX[..., None] * weight_XT * credit_SX[..., None] * logq_SXT).sum()
    if not way.strategy.kl_in_reward:
        gap_SXT = worlds.logp_SXT - logq_SXT
        total = total - way.beta * (q_SX[..., None] * weight_XT * (gap_SXT.exp() - gap_SXT - 1)).sum()
    total.backward()
    return theta.grad


def rest(worlds: Worlds, way: Way, rate: float = 0.3, steps: int = 20_000, tolerance: float = 1e-10) -> Tensor:
    """(S, K, V) logits at which the expected update has died down, from the worlds' own: ascent in which every action moves by its
    own update per visit (the directions' signs, and so the resting places, are those of the plain update).

    Raises:
        RuntimeError: it has not come to rest.
    """
    theta_SKV = worlds.start_SKV.clone()
    states = theta_SKV.shape[1]
    size = float("nan")
    mass = float(_weights(worlds, way.strategy).sum(1).max())
    for _ in range(steps):
        update_SKV = expected_update(worlds, theta_SKV, way)
        logq_SXT = worlds.logps(theta_SKV)
        q_SX = logq_SXT.sum(-1).exp()
        # A z-score would blow up what is left near the end; a positive factor moves no resting place.
        scale_S = _divisor(way.strategy, _rewards(worlds, logq_SXT, way), q_SX) / mass
        visits_SKV = worlds.counts(q_SX[..., None] * worlds.mask_XT, states)
        step_SKV = torch.where(visits_SKV > 0, update_SKV / visits_SKV.clamp(min=1e-300), 0.0) * scale_S[:, None, None]
        size = float((step_SKV.abs() * visits_SKV).sum(1).max())
        if size < tolerance:
            return theta_SKV
        theta_SKV = theta_SKV + (rate / max(1.0, way.beta) * step_SKV).clamp(-1.0, 1.0)
    raise RuntimeError(f"After {steps} steps an update of {size:.1e} is left; take a smaller rate.")


def _rewards(worlds: Worlds, logq_SXT: Tensor, way: Way) -> Tensor:
    """(S, X) log p, less the KL penalty where it stands in the reward."""
    if not way.strategy.kl_in_reward:
        return worlds.logp_SX
    return worlds.logp_SX - way.beta * (logq_SXT.sum(-1) - worlds.logp_SX)


def total_variation_S(p_SX: Tensor, q_SX: Tensor) -> Tensor:
    return 0.5 * (p_SX - q_SX).abs().sum(-1)


def _weights(worlds: Worlds, strategy: Strategy) -> Tensor:
    """(X, T) the strategy's weight, every text once in one batch; a factor that all texts share does not matter."""
    rollout = Rollout(
        rewards_B=torch.zeros(len(worlds.mask_XT), dtype=torch.float64),
        group_B=torch.zeros(len(worlds.mask_XT), dtype=torch.long),
        mask_BT=worlds.mask_XT,
        max_length=worlds.limit,
        kl_rewards_BT=torch.zeros(worlds.mask_XT.shape, dtype=torch.float64),
    )
    return strategy.score(rollout).weights_BT * len(worlds.mask_XT)


def _centred(rewards_SX: Tensor, q_SX: Tensor) -> Tensor:
    return rewards_SX - (q_SX * rewards_SX).sum(-1, keepdim=True)


def _divisor(strategy: Strategy, rewards_SX: Tensor, q_SX: Tensor) -> Tensor:
    """(S,) what the baseline divides by."""
    member, bound = strategy.baseline, {}
    if isinstance(member, partial):
        member, bound = member.func, member.keywords
    if member in CENTRED:
        return torch.ones(len(q_SX), dtype=q_SX.dtype)
    if member is baselines.group_zscore:
        return (q_SX * _centred(rewards_SX, q_SX) ** 2).sum(-1).sqrt() + bound.get("eps", 1e-4)
    raise ValueError(f"The expectation of {member_name(member)} is not written here; take group_mean or group_zscore.")
