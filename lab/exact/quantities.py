"""Exact quantities of a policy in a world: gradients of E[R] and E[length], V(s), Q(s, a), A*(s, a), entropies.

Everything is float64 and comes from the list of all texts (lab/exact/tree.py). Prompts weigh the same: E[R] is the mean over
prompts. Shapes as in lab/exact/tree.py; D parameters. At masked positions log-probs, values, entropies and A* are 0.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from lab.exact.policies import POLICIES, Tabular, TreePolicy
from lab.exact.tree import Tree, grow
from lab.exact.world import World

MAX_SCORE_BYTES = 1 << 30


class Exact:
    """A policy with parameters `theta` in an enumerated world.

    Args:
        tree: the enumerated world. policy: see lab/exact/policies.py. theta: (D,) float64; default the policy's initial one.
    """

    def __init__(self, tree: Tree, policy: TreePolicy, theta: Tensor | None = None):
        self.tree, self.policy = tree, policy
        self.theta = (policy.initial if theta is None else theta).detach()
        with torch.no_grad():
            every_NTA = self._log_softmax(self.theta)
            self.action_logps_NTA = every_NTA
            self.logps_NT = self._taken(every_NTA)
        self.probs_N = self.logps_NT.sum(dim=1).exp() * tree.chance_N

    def at(self, theta: Tensor) -> Exact:
        """The same world under other parameters."""
        return Exact(self.tree, self.policy, theta)

    def logps_at(self, theta: Tensor) -> Tensor:
        """(N, T) log-prob of each token under other parameters, with its gradient; 0 at masked tokens."""
        return self._taken(self._log_softmax(theta))

    @property
    def prompts(self) -> int:
        return len(self.tree.world.prompts)

    def mean(self, values_N: Tensor) -> float:
        """E over prompts and texts of a number per text."""
        return float((self.probs_N * values_N).sum() / self.prompts)

    def gradient(self, values_N: Tensor) -> Tensor:
        """(D,) gradient of `mean(values_N)`, by differentiating the sum over all texts."""
        theta = self.theta.clone().requires_grad_()
        logps_N = self._taken(self._log_softmax(theta)).sum(dim=1)
        (logps_N.exp() * self.tree.chance_N * values_N).sum().div(self.prompts).backward()
        return theta.grad

    @cached_property
    def reward_gradient(self) -> Tensor:
        """(D,) the truth: gradient of E[R]."""
        return self.gradient(self.tree.rewards_N)

    @cached_property
    def length_gradient(self) -> Tensor:
        """(D,) gradient of the expected number of learning tokens."""
        return self.gradient(self.tree.lengths_N.double())

    @cached_property
    def success_length_gradient(self) -> Tensor:
        """(D,) gradient of E[R length] / E[R], the reward-weighted mean length; NaN where E[R] is 0."""
        rewards_N, lengths_N = self.tree.rewards_N, self.tree.lengths_N.double()
        rewarded = self.mean(rewards_N * lengths_N) / self.mean(rewards_N)
        return self.gradient(rewards_N * (lengths_N - rewarded)) / self.mean(rewards_N)

    def pull(self, coefficients_NT: Tensor) -> Tensor:
        """(D,) sum over texts and tokens of coefficient times gradient of the token's log-prob."""
        theta = self.theta.clone().requires_grad_()
        (self._taken(self._log_softmax(theta)) * coefficients_NT).sum().backward()
        return theta.grad

    @cached_property
    def scores_NTD(self) -> Tensor:
        """(N, T, D) gradient of each token's log-prob; 0 at masked tokens.

        Raises:
            ValueError: larger than MAX_SCORE_BYTES; use a smaller world.
        """
        (texts, width), parameters = self.tree.mask_NT.shape, self.theta.numel()
        if texts * width * parameters * 8 > MAX_SCORE_BYTES:
            raise ValueError(
                f"{texts} texts x {width} tokens x {parameters} parameters do not fit in memory; shrink world "
                f"{self.tree.world.name!r}. Its exact gradients and values are still available."
            )
        if isinstance(self.policy, Tabular):
            return self._tabular_scores()
        jacobian = torch.func.jacrev(lambda theta: self._taken(self._log_softmax(theta)).flatten(), chunk_size=64)
        return jacobian(self.theta).view(texts, width, parameters)

    def expected_scores(self, item_N: Tensor, share_N: Tensor, items: int) -> tuple[Tensor, Tensor]:
        """Scores of texts put together: (I, T, D) weighted sums over the texts of each item, and (I, T, T) the inner
        products of the deviations from them, where the weights `share_N` sum to 1 in each item.

        Raises:
            ValueError: too large for the memory.
        """
        (_, width), parameters = self.tree.mask_NT.shape, self.theta.numel()
        if items * width * parameters * 8 > MAX_SCORE_BYTES:
            raise ValueError(
                f"{items} items (texts that count as one) x {width} tokens x {parameters} parameters do not fit in memory."
            )
        mean_ITD = torch.zeros(items, width, parameters, dtype=torch.float64)
        if not isinstance(self.policy, Tabular):
            mean_ITD.index_add_(0, item_N, self.scores_NTD * share_N[:, None, None])
            deviation_NTD = (self.scores_NTD - mean_ITD[item_N]) * share_N.sqrt()[:, None, None]
            spread_ITT = torch.zeros(items, width, width, dtype=torch.float64)
            return mean_ITD, spread_ITT.index_add_(0, item_N, deviation_NTD @ deviation_NTD.transpose(1, 2))
        # Tabular: a token's score lives on its own state, so tokens of a text are orthogonal; never built densely.
        score_NTA = self._action_scores()
        states, actions = self.tree.tilt_SA.shape
        position_NT = (item_N[:, None] * width + torch.arange(width)) * states + self.tree.state_NT.clamp(min=0)
        weighted_NTA = score_NTA * share_N[:, None, None]
        mean_ITD.view(-1, actions).index_add_(0, position_NT.flatten(), weighted_NTA.flatten(0, 1))
        square_NT = score_NTA.square().sum(dim=-1) * share_N[:, None]
        square_IT = torch.zeros(items, width, dtype=torch.float64).index_add_(0, item_N, square_NT)
        return mean_ITD, torch.diag_embed(square_IT) - mean_ITD @ mean_ITD.transpose(1, 2)

    def _action_scores(self) -> Tensor:
        """(N, T, A) gradient of the log-prob in the logits: one-hot of the action minus the policy."""
        one_hot_NTA = torch.nn.functional.one_hot(self.tree.actions_NT, self.tree.tilt_SA.shape[1])
        return (one_hot_NTA - self.action_logps_NTA.exp()) * self.tree.mask_NT[..., None]

    def _tabular_scores(self) -> Tensor:
        """Closed form: the gradient in the logits, at the state's position."""
        tree, actions = self.tree, self.tree.tilt_SA.shape[1]
        score_NTA = self._action_scores()
        scores_NTSA = torch.zeros(*tree.mask_NT.shape, *tree.tilt_SA.shape, dtype=torch.float64)
        index = tree.state_NT.clamp(min=0)[..., None, None].expand(-1, -1, 1, actions)
        return scores_NTSA.scatter_(2, index, score_NTA[:, :, None, :]).flatten(2)

    @cached_property
    def _value_by_node(self) -> Tensor:
        """V of every prefix: sum of p R below it over the sum of p below it."""
        tree = self.tree
        rewarded, reached = (torch.zeros(tree.nodes, dtype=torch.float64) for _ in range(2))
        index = torch.cat([tree.root_N[:, None], tree.node_NT], dim=1)
        valid = index >= 0
        for total, values_N in ((rewarded, self.probs_N * tree.rewards_N), (reached, self.probs_N)):
            total.index_add_(0, index[valid], values_N[:, None].expand(index.shape)[valid])
        return rewarded / reached

    @cached_property
    def values_NT(self) -> Tensor:
        """V(s_t): expected reward before the token."""
        return self._value_by_node[self.tree.before_NT.clamp(min=0)].masked_fill(~self.tree.mask_NT, 0.0)

    @cached_property
    def q_NT(self) -> Tensor:
        """Q(s_t, a_t): expected reward after the token, before the environment answers."""
        return self._value_by_node[self.tree.node_NT.clamp(min=0)].masked_fill(~self.tree.mask_NT, 0.0)

    @cached_property
    def advantages_NT(self) -> Tensor:
        """A*(s_t, a_t) = Q - V, the ideal credit."""
        return self.q_NT - self.values_NT

    @cached_property
    def prompt_values_N(self) -> Tensor:
        """V(prompt) of each text's prompt."""
        return self._value_by_node[self.tree.root_N]

    @cached_property
    def luck_N(self) -> Tensor:
        """What the environment's own tokens added to the expected reward along each text."""
        after_NT = self._value_by_node[self.tree.node_NT.clamp(min=0)]
        before_NT = self._value_by_node[self.tree.before_NT.clamp(min=0)]
        return ((after_NT - before_NT) * (self.tree.written_NT & ~self.tree.mask_NT)).sum(dim=1)

    @cached_property
    def entropies_NT(self) -> Tensor:
        """Entropy (nats) of the policy before each token."""
        entropy_NT = torch.special.entr(self.action_logps_NTA.exp()).sum(dim=-1)
        return entropy_NT.masked_fill(~self.tree.mask_NT, 0.0)

    @cached_property
    def sum_sq_NT(self) -> Tensor:
        """Sum of the squared probabilities of the policy before each token."""
        return self.action_logps_NTA.exp().square().sum(dim=-1).masked_fill(~self.tree.mask_NT, 0.0)

    @cached_property
    def origin(self) -> Exact:
        """A policy that this one may have come from: one exact step of length 1 back, and 0.1 of drift in every parameter, which
        no reward has asked for."""
        gradient = self.reward_gradient
        back = gradient / gradient.norm() if gradient.norm() > 1e-12 else torch.zeros_like(gradient)
        drift = torch.randn(len(self.theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return self.at(self.theta - back + 0.1 * drift)

    @cached_property
    def hindsight_NT(self) -> Tensor:
        """(N, T) log-probs of a teacher who knows that the text will do well: this policy given success, by Bayes' rule
        pi(a | s, success) = pi(a | s) Q(s, a) / V(s). Success is the reward, put between 0.01 and 1."""
        q_NT, v_NT = map(self._success, (self.q_NT, self.values_NT))
        return (self.logps_NT + q_NT.log() - v_NT.log()).masked_fill(~self.tree.mask_NT, 0.0)

    def _success(self, values_NT: Tensor) -> Tensor:
        """Rewards, or expected ones, put between 0.01 and 1."""
        rewards_N = self.tree.rewards_N
        low, span = rewards_N.min(), (rewards_N.max() - rewards_N.min()).clamp(min=1e-12)
        return 0.01 + 0.99 * (values_NT - low) / span

    @cached_property
    def answer_logps_NT(self) -> Tensor:
        """(N, T) log-prob of the text's right answer, had it to be given before the token: in worlds that have answers the policy's
        own, else the logarithm of the chance of success."""
        mask_NT, answer_N = self.tree.mask_NT, self.tree.answer_N
        if self.tree.world.answer is None:
            return self._success(self.values_NT).log().masked_fill(~mask_NT, 0.0)
        index_NT1 = answer_N[:, None, None].expand(*mask_NT.shape, 1)
        return self.action_logps_NTA.gather(-1, index_NT1).squeeze(-1).masked_fill(~mask_NT, 0.0)

    @cached_property
    def better(self) -> Exact:
        """Another policy, which earns more: three exact steps of length 1 ahead, and the drift that `origin` has too."""
        drift = torch.randn(len(self.theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ahead = climb(self, 3, 1.0) if self.reward_gradient.norm() > 1e-12 else self
        return self.at(ahead.theta + 0.1 * drift)

    def _log_softmax(self, theta: Tensor) -> Tensor:
        return self.policy.logits(theta).log_softmax(dim=-1)

    def _taken(self, every_NTA: Tensor) -> Tensor:
        taken_NT = every_NTA.gather(-1, self.tree.actions_NT[..., None]).squeeze(-1)
        return taken_NT.masked_fill(~self.tree.mask_NT, 0.0)


def exact(world: World, policy: str = "tabular", seed: int = 0) -> Exact:
    """Enumerates a world under a fresh policy ("tabular" or "transformer").

    Raises:
        ValueError: unknown policy, or a world too large to enumerate.
    """
    if policy not in POLICIES:
        raise ValueError(f"No policy {policy!r}. There is: {', '.join(POLICIES)}.")
    tree = grow(world)
    return Exact(tree, POLICIES[policy](tree, seed=seed))


def climb(start: Exact, updates: int, step: float) -> Exact:
    """`start` after some exact-gradient updates of fixed length `step` in parameter space: a learner whose sampler is
    that many updates behind."""
    learner = start
    for _ in range(updates):
        gradient = learner.reward_gradient
        learner = learner.at(learner.theta + step * gradient / gradient.norm())
    return learner
