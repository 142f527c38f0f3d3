"""Runs a strategy on batches of texts of a world: the same `Strategy.score`, `live_advantages` and `log_ratio` as in
training, in float64. The result is the coefficient c[b,t] of each token's score: the gradient estimate of a batch is
sum c[b,t] grad log p(token b,t); on-policy c = w A.

Shapes: n batches of R rows each, T tokens, N texts, J turns.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from credit.batch import Rollout
from credit.signals import FACTS, ask
from credit.strategy import Strategy
from credit.turns.index import earned_by_turn_end, spread_over_turns, sum_by_turn, turn_index
from lab.exact.quantities import Exact
from lab.exact.tree import Tree
from lab.measure.critics import CRITICS
from lab.measure.memory import earlier_batches, remembers
from lab.measure.rows import LabModels, LabRows
from lab.measure.surrogates import SURROGATES

# What two texts may share and still look the same to a strategy.
TYPE_SIGNALS = frozenset(
    [
        *("rewards_B", "rewards_BK", "reward_weights_K", "group_B", "advantages_B"),
        *("mask_BT", "lengths_B", "max_length", "token_rewards_BT", "turn_BT"),
        *("prompt_B", "offline_value_B"),
    ]
)
LIVE_SIGNALS = frozenset(["policy_logps_BT", "sampler_logps_BT", "entropies_BT", "values_BT"])
# Beside what providers of signals make (lab/measure/rows.py).
SUPPLIED = TYPE_SIGNALS | LIVE_SIGNALS | {"scoring_values_BT"}


@dataclass(frozen=True)
class Coupling:
    """How far a row's coefficients look.

    level: "rows" (only at itself), "groups" (at its prompt's group), "batch" (further, or at the order of rows).
    per_batch: weights are shares of the batch (1 / B), so in n stacked batches they are n times too small.
    """

    level: str
    per_batch: bool


@dataclass
class Scorer:
    """A strategy in a world.

    Args:
        strategy: what training would run.
        learner: the live policy. sampler: the policy that wrote the texts; None: the learner itself (on-policy).
        critic: name in `lab.measure.critics.CRITICS`, for strategies that ask for `values_BT`.
        surrogate: name in `lab.measure.surrogates.SURROGATES`; only off-policy does it matter.

    Raises:
        ValueError: the strategy needs a signal the lab does not have, or an unknown critic or surrogate.
    """

    strategy: Strategy
    learner: Exact
    sampler: Exact | None = None
    critic: str = "perfect"
    surrogate: str = "clip"
    calls: int = field(default=0, init=False)
    _training: bool = field(default=True, init=False)

    def __post_init__(self):
        for name, known in ((self.critic, CRITICS), (self.surrogate, SURROGATES)):
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}.")
        if lacking := sorted((self.strategy.needs & set(FACTS)) - SUPPLIED):
            raise ValueError(f"Strategy {self.strategy.name!r} needs {', '.join(lacking)}, which the lab has not.")
        tree = self.learner.tree
        self._source = self.sampler or self.learner
        self._values_NT = CRITICS[self.critic](self._source) if self.strategy.needs_values else None
        if self._values_NT is not None and self.strategy.pays_by_turn:
            self._values_NT = self._values_NT - _earned_before_turn(tree)  # V of what is still to come
        self._reward_weights_K = torch.ones(tree.rewards_NK.shape[1], dtype=torch.float64)
        if any(hasattr(provider, "prepare") for provider, _ in self.strategy.makers()):
            self.strategy = copy.deepcopy(self.strategy)  # another world may be measured in between
            for provider, _ in self.strategy.makers():
                if callable(prepare := getattr(provider, "prepare", None)):
                    prepare(LabModels(self._source))
        self._keeps_state, learns = remembers(self.strategy), _learns(self.strategy)
        if self._keeps_state or learns:
            # Measured with what it knows after some batches, and each time with that.
            self.strategy = copy.deepcopy(self.strategy)
            batches, group_R = earlier_batches(self._source)
            for texts_R in batches:
                self.strategy.score(self.rollout(texts_R, group_R))
        # A model that learns gives its log-probs before it does, so what is measured is not what it learns next.
        self._training = not learns

    @property
    def sees_texts(self) -> bool:
        """Whether the strategy can tell texts apart that agree in reward and mask."""
        needs = self.strategy.needs
        extra = {name for name in needs if self.strategy.meaning_of(name).stage != "loss"} - TYPE_SIGNALS
        return (
            self.strategy.is_live
            or self.strategy.live_weight is not None
            or self.strategy.auxiliary is not None
            or self.sampler is not None
            or bool(extra)
        )

    def rows(self, texts_R: Tensor, group_R: Tensor) -> tuple[Tensor, Tensor]:
        """One generation batch -> (advantages_RT, coefficients_RT)."""
        self.calls += 1
        strategy = copy.deepcopy(self.strategy) if self._keeps_state else self.strategy
        rollout = self.rollout(texts_R, group_R)
        credit = strategy.score(rollout)
        advantages_RT, weights_RT = credit.advantages_BT, credit.weights_BT
        reads_live = strategy.live_weight is not None or strategy.auxiliary is not None
        if advantages_RT is None or reads_live or self.sampler is not None:
            signals = self.live_signals(rollout, credit.advantages_B, texts_R)
        if advantages_RT is None:
            advantages_RT = strategy.live_advantages(signals)
        if strategy.live_weight is not None:
            weights_RT = weights_RT * strategy.live_weights(signals)
        beside_RT = 0.0 if strategy.auxiliary is None else beside_credit(strategy, credit.auxiliary_BT, signals)
        if self.sampler is None:
            return advantages_RT, weights_RT * advantages_RT + beside_RT
        log_ratio_RT = strategy.log_ratio(signals).masked_fill(~rollout.mask_BT, 0.0).detach()
        own_RT = torch.zeros_like(log_ratio_RT, requires_grad=True)
        surrogate_RT = SURROGATES[self.surrogate](torch.exp(log_ratio_RT + own_RT), advantages_RT)
        (weights_RT * surrogate_RT).sum().backward()
        return advantages_RT, own_RT.grad + beside_RT

    def rollout(self, texts_R: Tensor, group_R: Tensor) -> Rollout:
        """What the strategy sees at scoring time."""
        tree = self.learner.tree
        bare = Rollout(
            rewards_B=tree.rewards_N[texts_R],
            rewards_BK=tree.rewards_NK[texts_R],
            reward_weights_K=self._reward_weights_K,
            group_B=group_R,
            mask_BT=tree.mask_NT[texts_R],
            max_length=tree.world.max_length,
            scoring_values_BT=None if self._values_NT is None else self._values_NT[texts_R],
        )
        rows, made = LabRows(self._source, bare, texts_R), {}
        rows.training = self._training
        # Always there, whoever asks: they cost nothing here, and what is measured changes them (lab/measure/invariances.py).
        for provider, wanted in self.strategy.makers(frozenset(["token_ids_BT", "span_rewards_BT"])):
            rows.wanted = wanted
            made |= ask(provider, rows, wanted)
        return bare.with_provided(made)

    def live_signals(self, rollout: Rollout, advantages_R: Tensor, texts_R: Tensor) -> dict[str, Tensor | int]:
        """What the strategy sees in the loss; rows only, no groups, as in the trainer."""
        stage_of = {name: self.strategy.meaning_of(name).stage for name in rollout.signals()}
        signals = {name: value for name, value in rollout.signals().items() if stage_of[name] != "scoring"}
        signals |= {
            "advantages_B": advantages_R,
            "policy_logps_BT": self.learner.logps_NT[texts_R],
            "sampler_logps_BT": self._source.logps_NT[texts_R],
            "entropies_BT": self.learner.entropies_NT[texts_R],
        }
        if self._values_NT is not None:
            signals["values_BT"] = self._values_NT[texts_R]
        return signals

    def separate(self, texts_nR: Tensor, group_R: Tensor) -> tuple[Tensor, Tensor]:
        """Each batch by itself, as training would -> (advantages_nRT, coefficients_nRT)."""
        results = [self.rows(texts_R, group_R) for texts_R in texts_nR]
        return torch.stack([a for a, _ in results]), torch.stack([c for _, c in results])

    def stacked(self, texts_nR: Tensor, group_R: Tensor) -> tuple[Tensor, Tensor]:
        """All batches in one call, as one large batch of disjoint groups. Right (up to a
        factor, see `Coupling`) only for strategies without coupling between groups."""
        batches, rows = texts_nR.shape
        group_nR = torch.arange(batches)[:, None] * (int(group_R.max()) + 1) + group_R
        advantages, coefficients = self.rows(texts_nR.flatten(), group_nR.flatten())
        return advantages.view(batches, rows, -1), coefficients.view(batches, rows, -1)

    def coupling(self, prompts: int, group_size: int, trials: int = 10, seed: int = 0) -> Coupling:
        """Whose coefficients depend on whom, and how `stacked` relates to `separate`.

        Decided by trial on random batches (all texts equally likely, some batches of equal rows, rows shuffled), to
        1e-9. Also finds out whether the strategy keeps state between calls; from then on each call starts from a fresh
        copy.
        """
        generator = torch.Generator().manual_seed(seed)
        tree = self.learner.tree
        group_R = torch.arange(prompts).repeat(group_size)
        by_prompt = [torch.nonzero(tree.prompt_N == p).flatten() for p in range(prompts)]
        columns = [pool[torch.randint(len(pool), (trials,), generator=generator)] for pool in by_prompt * group_size]
        texts_nR = torch.stack(columns, dim=1)
        for prompt, pool in enumerate(by_prompt):
            mine_R = group_R == prompt
            texts_nR[: trials // 4, mine_R] = texts_nR[: trials // 4, prompt : prompt + 1]
            texts_nR[0, mine_R] = pool[0]
        before = copy.deepcopy(self.strategy)
        first = self.rows(texts_nR[-1], group_R)[1]
        if not self._keeps_state and not torch.equal(first, self.rows(texts_nR[-1], group_R)[1]):
            self.strategy, self._keeps_state = before, True
        alone = self.separate(texts_nR, group_R)
        order = torch.randperm(texts_nR.numel(), generator=generator)
        group_nR = torch.arange(trials)[:, None] * prompts + group_R
        levels = {"rows": torch.arange(texts_nR.numel()).view_as(group_nR), "groups": group_nR}
        for level, ids_nR in levels.items():
            parts = self.rows(texts_nR.flatten()[order], ids_nR.flatten()[order])
            together = [part[order.argsort()].view_as(alone[0]) for part in parts]
            for scales, factor in ((True, trials), (False, 1)):
                if _close(alone[0], together[0]) and _close(alone[1], together[1] * factor):
                    return Coupling(level, scales)
        return Coupling("batch", False)


def beside_credit(strategy: Strategy, measure_RT: Tensor | None, signals: Mapping[str, Tensor | int]) -> Tensor:
    """(R, T) what the auxiliary term adds to the coefficient of each score: minus its derivative by the token's own log-prob."""
    logps_RT = signals["policy_logps_BT"].detach().clone().requires_grad_()
    terms_RT = strategy.auxiliary_terms({**signals, "policy_logps_BT": logps_RT})
    (measure_RT * terms_RT).sum().backward()
    return -logps_RT.grad


def _learns(strategy: Strategy) -> bool:
    """Whether a provider keeps a model that learns from batch to batch."""
    return any(getattr(provider, "learns", False) for provider, _ in strategy.makers())


def _earned_before_turn(tree: Tree) -> Tensor:
    """(N, T) what was earned in the turns before that of each learning token; 0 elsewhere."""
    turn_NT = turn_index(tree.mask_NT)
    earned_NJ = sum_by_turn(earned_by_turn_end(tree.span_rewards_NT, turn_NT), turn_NT)
    return spread_over_turns(earned_NJ.cumsum(dim=1) - earned_NJ, turn_NT)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs() <= 1e-9 * one.abs().max() + 1e-15).all())
