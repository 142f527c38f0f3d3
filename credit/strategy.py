"""A credit strategy = baseline + spread + weight + ratio. What Hydra instantiates and the trainer executes.

Members are plain callables; what each needs is read off its parameter names (`credit.signals.SIGNALS`), so a new member
is one function and touches nothing else. Every other parameter must have a default or be bound (YAML keys next to
`_target_` bind them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from credit import baseline as baselines
from credit import ratio as ratios
from credit import spread as spreads
from credit.batch import Credit, Rollout
from credit.checks import Doubts, Hands, default_dtype_of, member_name, unbound
from credit.critic.spec import CriticSpec
from credit.declare import Declaration, compose, declaration_of
from credit.methods.auxiliary import auxiliary_parts, refuse_constant, refuse_without_gradient
from credit.requires import check_requires
from credit.returns import last_token_rewards
from credit.settings import check_types
from credit.signals import Signal, catalogue_of, makers_of
from credit.signals.stages import STAGES, STAND_INS, check_stage, signals_of, word_for
from credit.signals.teacher import teacher_of

Member = Callable[..., Tensor]


@dataclass
class Strategy:
    """The composition. `loss = - sum w[b,t] f(rho[b,t], A[b,t])`.

    Raises:
        ValueError: a member asks for a signal that does not exist, or that its stage cannot see; a setting is of another type
            or out of range.
    """

    weight: Member
    """Measure over tokens, see credit/weight.py."""
    baseline: Member = baselines.group_mean
    """From rewards to one advantage per completion, see credit/baseline.py."""
    spread: Member = spreads.broadcast
    """From one advantage per completion to one per token, see credit/spread.py."""
    ratio: Member = ratios.token
    """The importance ratio, see credit/ratio.py."""
    unit_mass: bool = False
    """Rescales the weights to total mass 1 per optimiser batch, so that an ablation over weights does not compare step sizes.
    A batch without tokens keeps mass 0."""
    name: str = "custom"
    """Shown in logs and reports; of a YAML that says none, its file's."""
    declares: Mapping[str, object] = field(default_factory=dict)
    """Overrides what the members declare together; keys as in `credit.declare.Declaration`."""
    critic: CriticSpec | None = None
    """What fits V(s_t), for members that ask for `values_BT`: a spec of credit/critic/spec.py. The trainer builds it."""
    critic_warmup_steps: int = 0
    """Optimiser steps at the start in which the critic is fitted and the policy stands still."""
    kl_in_reward: bool = False
    """The KL penalty -beta (sampler_logps - ref_logps) joins the reward, beta being the trainer's, and TRL's own KL term is left
    out of the loss. Members that read `token_rewards_BT` or `kl_rewards_BT` get it token by token, as in PPO; where none does,
    its sum over the row joins `rewards_B`, as in RLOO."""
    requires: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the trainer must have, as in `{beta: "> 0"}`; see credit/requires.py."""
    live_weight: Member | None = None
    """A factor on the weights that reads the live forward pass, row by row (credit/methods/live.py); None: 1. What looks at the
    whole batch, a denominator, belongs in `weight`, or is `unit_mass`, which then counts with the policy that sampled."""
    auxiliary: Any = None
    """A term of its own in the loss, beside the credit (credit/methods/auxiliary.py); None: none."""
    signals: Sequence[Any] | Mapping[str, Any] = ()
    """Providers of signals of your own, which members then ask for by name: a list, or a mapping whose names are free. A built-in
    signal needs none: who asks for it gets it."""
    teacher: Any = None
    """Who reads the completions again, knowing more, for members that ask for `teacher_logps_BT`; see credit/signals/teacher.py."""

    def __post_init__(self):
        if isinstance(self.critic, Mapping):  # configs/credit/critic/none.yaml, and what a strategy sets of its critic
            self.critic = None
        if self.critic is not None and not isinstance(self.critic, CriticSpec):
            raise ValueError(
                f"critic must be a specification of credit/critic/spec.py, got {self.critic!r}; credit/critic=head (with a slash) "
                "chooses one."
            )
        self.teacher = teacher_of(self.teacher)
        given = self.signals.values() if isinstance(self.signals, Mapping) else self.signals or ()
        self.signals = tuple(unbound(provider) for provider in given)
        self._catalogue = catalogue_of(self.providers)
        stages = {
            axis: stage for axis, stage in STAGES.items() if axis != "live_weight" or self.live_weight is not None
        }
        if self.auxiliary is not None:
            self.auxiliary_measure, self.auxiliary_term = auxiliary_parts(self.auxiliary)
            stages |= {"auxiliary_measure": "scoring", "auxiliary_term": "loss"}
        for axis in stages:
            setattr(self, axis, unbound(getattr(self, axis)))
        self._needs = {axis: signals_of(axis, getattr(self, axis), self._catalogue) for axis in stages}
        if made_of_itself := [name for name in ("advantages_B", "token_rewards_BT") if name in self._needs["baseline"]]:
            raise ValueError(
                f"{self._called('baseline')} asks for {made_of_itself[0]}, which is made of what it returns. Ask for rewards_B."
            )
        if self.auxiliary is not None:
            refuse_without_gradient(self._called("auxiliary_term"), self._needs["auxiliary_term"])
        self.is_live = any(self._catalogue[name].stage == "loss" for name in self._needs["spread"])
        for axis, stage in (stages | {"spread": "loss" if self.is_live else "scoring"}).items():
            check_stage(self._called(axis), self._needs[axis], stage, self._catalogue)
        self._check_penalty()
        self.makers()  # refuses what nobody makes
        check_types(self)
        check_requires(self.requires)
        if self.critic_warmup_steps < 0 or (self.critic_warmup_steps and self.critic is None):
            raise ValueError(
                f"critic_warmup_steps={self.critic_warmup_steps} needs a critic (credit/critic=head) and a number >= 0."
            )

    @property
    def providers(self) -> tuple[Any, ...]:
        """Who makes signals for this strategy beside the built-in ones: its teacher, and those of `signals`."""
        return tuple(self.signals) if self.teacher is None else (self.teacher, *self.signals)

    @property
    def needs(self) -> frozenset[str]:
        """Names of all signals any member asks for."""
        counted = self._needs.get("live_weight", ()) if self.unit_mass else ()
        early = {STAND_INS[name] for name in counted if name in STAND_INS}
        return frozenset(early).union(*self._needs.values())

    @property
    def live_needs(self) -> frozenset[str]:
        """Names of the signals that members in the loss ask for."""
        live = ("ratio", "live_weight", "auxiliary_term", *(["spread"] if self.is_live else []))
        return frozenset().union(*(self._needs.get(axis, ()) for axis in live))

    def makers(self, more: frozenset[str] = frozenset()) -> list[tuple[Any, frozenset[str]]]:
        """(provider, signals it is to make) for what the members ask for, and `more`."""
        return makers_of(self.needs | more, self.providers)

    def meaning_of(self, name: str) -> Signal:
        """What is said of a signal."""
        return self._catalogue[name]

    @property
    def holds_start(self) -> bool:
        """Whether the policy that the run started from stays in use, KL term or not."""
        return any(getattr(provider, "holds_start", False) for provider, _ in self.makers())

    @property
    def needs_values(self) -> bool:
        """Whether some member reads a critic's values, live or at scoring time."""
        return bool(self.needs & {"values_BT", "scoring_values_BT"})

    @property
    def pays_by_turn(self) -> bool:
        """Whether the spread credits what each turn earned; a critic is then fitted to what was still to come."""
        return "turn_rewards_BT" in self._needs["spread"]

    @property
    def kl_by_row(self) -> bool:
        """Whether the KL penalty joins the reward of its row, because no member takes it token by token."""
        return self.kl_in_reward and not self.needs & _KL_BY_TOKEN

    @property
    def needs_kl_at_scoring(self) -> bool:
        """Whether `kl_rewards_BT` must be there before the live forward pass."""
        early = {name for axis in ("baseline", "weight") for name in self._needs[axis]}
        early |= set() if self.is_live else set(self._needs["spread"])
        return self.kl_in_reward and (self.kl_by_row or bool(early & _KL_BY_TOKEN))

    @property
    def uses_own_ratio(self) -> bool:
        """Whether log rho has to be written over TRL's token ratio."""
        return self.ratio is not ratios.token

    @property
    def declaration(self) -> Declaration:
        """Composed from the members; `declares` has the last word."""
        members = [declaration_of(getattr(self, axis)) for axis in self._needs]
        # Dividing by the batch's own mass couples its rows, as token_mean does.
        mass = [Declaration(unbiased=False, weight_class="batch", row_constant=True)] if self.unit_mass else []
        composed = compose(*members, *mass)
        return Declaration(**{**composed.__dict__, **self.declares})

    def score(self, rollout: Rollout, advantages_B: Tensor | None = None) -> Credit:
        """Everything that needs the whole batch. Same dtype as `rollout.rewards_B`; 0 at masked tokens.

        `advantages_B`: what `advantages` made of this rollout, where it was asked before; a baseline may keep state, so it is
        called once for each batch.

        Raises:
            ValueError: a member returned the wrong shape, NaN or inf, or a negative weight.
        """
        signals, mask_BT = self._penalised(rollout.signals()), rollout.mask_BT
        dtype, scorable_B = rollout.rewards_B.dtype, ~rollout.rewards_B.isnan()
        if advantages_B is None:
            advantages_B = self.advantages(rollout)
        signals["advantages_B"] = advantages_B
        for axis in ("weight",) if self.is_live else ("weight", "spread"):
            signals = self._with_outcome(axis, signals)
        advantages_BT = None
        if not self.is_live:
            learning_BT = mask_BT & scorable_B[:, None]
            advantages_BT = self._call("spread", signals, learning_BT).to(dtype).masked_fill(~learning_BT, 0.0)
        weights_BT = self._call("weight", signals, mask_BT).to(dtype).masked_fill(~mask_BT, 0.0)
        if (weights_BT < 0).any():
            raise ValueError(f"{self._called('weight')} is negative somewhere; weights must be >= 0.")
        expected_BT = None if self.live_weight is None else self._expected(weights_BT, signals)
        if self.unit_mass:
            total = (weights_BT if expected_BT is None else expected_BT).sum()
            total = torch.where(total > 0, total, torch.ones_like(total))
            weights_BT, expected_BT = weights_BT / total, None if expected_BT is None else expected_BT / total
        return Credit(advantages_B, weights_BT, advantages_BT, expected_BT, self._auxiliary_measure(signals))

    def _auxiliary_measure(self, signals: Mapping[str, Any]) -> Tensor | None:
        if self.auxiliary is None:
            return None
        mask_BT = signals["mask_BT"]
        measure_BT = self._call("auxiliary_measure", self._with_outcome("auxiliary_measure", signals), mask_BT)
        if ((measure_BT < 0) & mask_BT).any():
            raise ValueError(f"{self._called('auxiliary_measure')} is negative somewhere; weights must be >= 0.")
        return measure_BT.to(signals["rewards_B"].dtype).masked_fill(~mask_BT, 0.0)

    def auxiliary_terms(self, signals: Mapping[str, Any], doubts: Doubts | None = None) -> Tensor:
        """(B, T) l of one micro-batch, with the gradient that `policy_logps_BT` has; 0 at masked tokens; asked only of a strategy
        with an `auxiliary`. `doubts`, Raises: as `live_advantages`; numbers without a gradient that are not 0."""
        signals, mask_BT = self._with_outcome("auxiliary_term", self._penalised(signals)), signals["mask_BT"]
        terms_BT = self._call("auxiliary_term", signals, mask_BT, doubts).masked_fill(~mask_BT, 0.0)
        refuse_constant(self._called("auxiliary_term"), terms_BT, signals["policy_logps_BT"])
        return terms_BT

    def _expected(self, weights_BT: Tensor, signals: Mapping[str, Any]) -> Tensor:
        """(B, T) the weights with the live factor that the policy which sampled gives them; NaN where nobody asked for its
        statistics."""
        known = {**signals, **{live: signals[early] for live, early in STAND_INS.items() if early in signals}}
        if any(name not in known for name in self._needs["live_weight"]):
            return torch.full_like(weights_BT, torch.nan)
        return weights_BT * self.live_weights(known).to(weights_BT.dtype)

    def advantages(self, rollout: Rollout) -> Tensor:
        """(B,) what the baseline makes of the rewards; 0 for unscorable rows."""
        rewards_B = rollout.rewards_B
        signals, scorable_B = self._penalised(rollout.signals()), ~rewards_B.isnan()
        if signals["rewards_B"][scorable_B].isnan().any():
            raise ValueError(
                f"kl_rewards_BT of credit strategy {self.name!r} holds NaN: the log-probs of the policy or of its reference are "
                "broken. Look at the learning rate and the precision."
            )
        advantages_B = self._call("baseline", signals, scorable_B).to(rewards_B.dtype)
        return torch.where(scorable_B, advantages_B, torch.zeros_like(advantages_B))

    def live_advantages(self, signals: Mapping[str, Any], doubts: Doubts | None = None) -> Tensor:
        """(B, T) credit of one micro-batch from the live forward pass; 0 at masked tokens. Rows stay independent.

        `doubts`: where to note numbers that are not finite, for a caller who settles them later, on all ranks at once.

        Raises:
            ValueError: the spread returned the wrong shape, wrote into its signals or, without `doubts`, returned NaN or inf.
        """
        learning_BT = signals["mask_BT"] & ~signals["rewards_B"].isnan()[:, None]
        signals = self._with_outcome("spread", self._penalised(signals))
        advantages_BT = self._call("spread", signals, learning_BT, doubts)
        return advantages_BT.masked_fill(~learning_BT, 0.0)

    def live_weights(self, signals: Mapping[str, Any], doubts: Doubts | None = None) -> Tensor:
        """(B, T) the factor on the weights of one micro-batch, 0 at masked tokens; asked only of a strategy with a `live_weight`.
        `doubts`, Raises: as `live_advantages`; a factor below 0 is no better than an infinite one."""
        signals, mask_BT = self._with_outcome("live_weight", self._penalised(signals)), signals["mask_BT"]
        factor_BT = self._call("live_weight", signals, mask_BT, doubts)
        signs = doubts or Doubts()
        signs.note_negative(self._called("live_weight"), factor_BT, mask_BT)
        if doubts is None:
            signs.settle(signs.flags())
        return factor_BT.masked_fill(~mask_BT, 0.0)

    def outcome(self, signals: Mapping[str, Any]) -> Tensor:
        """(B, T) what is credited and what a critic is fitted to: `advantages_B` (under `baseline: none` the reward) at the
        last learning token (of a spread that reads `turn_rewards_BT`: those, each turn's at its own last token), plus the KL
        penalty of each token under `kl_in_reward` unless it is in the row's reward already. 0 at masked tokens."""
        if self.pays_by_turn:
            rewards_BT = (
                signals["turn_rewards_BT"].to(signals["advantages_B"].dtype).masked_fill(~signals["mask_BT"], 0.0)
            )
        else:
            rewards_BT = last_token_rewards(signals["advantages_B"], signals["mask_BT"])
        if not self.kl_in_reward or self.kl_by_row:
            return rewards_BT
        return rewards_BT + self._penalty(signals).to(rewards_BT.dtype)

    def log_ratio(self, signals: Mapping[str, Any], doubts: Doubts | None = None) -> Tensor:
        """(B, T) log rho of one micro-batch. `doubts`, Raises: as `live_advantages`; a rho that overflows counts as inf."""
        signals, mask_BT = self._with_outcome("ratio", self._penalised(signals)), signals["mask_BT"]
        return self._call("ratio", signals, mask_BT, doubts)

    def _with_outcome(self, axis: str, signals: Mapping[str, Any]) -> Mapping[str, Any]:
        if "token_rewards_BT" not in self._needs[axis]:
            return signals
        return {**signals, "token_rewards_BT": self.outcome(signals)}

    def _penalised(self, signals: Mapping[str, Any]) -> dict[str, Any]:
        """The signals, `rewards_B` less the row's KL penalty where that is how this strategy takes it."""
        if not self.kl_by_row:
            return dict(signals)
        return {**signals, "rewards_B": signals["rewards_B"] + self._penalty(signals).sum(dim=1)}

    def _penalty(self, signals: Mapping[str, Any]) -> Tensor:
        """(B, T) the KL penalty; 0 at masked tokens."""
        if "kl_rewards_BT" not in signals:
            raise ValueError(f"Strategy {self.name!r} has kl_in_reward, but kl_rewards_BT is not collected here.")
        return signals["kl_rewards_BT"].to(signals["rewards_B"].dtype).masked_fill(~signals["mask_BT"], 0.0)

    def _check_penalty(self) -> None:
        if not self.kl_in_reward and "kl_rewards_BT" in self.needs:
            raise ValueError(
                f"Strategy {self.name!r} reads kl_rewards_BT, which is collected under kl_in_reward only. Set "
                "credit.kl_in_reward=true and trainer.beta."
            )
        if self.kl_by_row and "advantages_B" not in self._needs["spread"]:
            raise ValueError(
                f"kl_in_reward of {self.name!r}: its spread {member_name(self.spread)} reads neither advantages_B, "
                "token_rewards_BT nor kl_rewards_BT, so the penalty would be lost. Use credit/spread=broadcast or value, or "
                "kl_in_reward=false with TRL's own KL term (trainer.beta)."
            )

    def _called(self, axis: str) -> str:
        return f"The {word_for(axis)} {member_name(getattr(self, axis))} of credit strategy {self.name!r}"

    def _call(
        self,
        axis: str,
        signals: Mapping,
        relevant: Tensor,
        doubts: Doubts | None = None,
    ) -> Tensor:
        """What the member returned, checked. `relevant`: bool, where it must be finite; what it returns has this shape."""
        who = self._called(axis)
        missing = sorted(name for name in self._needs[axis] if name not in signals)
        if missing:
            raise ValueError(
                f"{who} needs {', '.join(missing)}, which this run does not "
                f"collect. {'; '.join(f'{name}: {self._catalogue[name].meaning}' for name in missing)}."
            )
        arguments = {name: signals[name] for name in self._needs[axis]}
        hands = Hands(arguments)
        with default_dtype_of(signals.get("rewards_B")):
            result = getattr(self, axis)(**arguments)
        if written := hands.written():
            raise ValueError(
                f"{who} wrote into {', '.join(written)}, which is the batch itself: the members after it, and the loss, would see "
                f"what it left there. Let it work on a copy, e.g. `{written[0]} = {written[0]}.clone()` in its first line."
            )
        if not isinstance(result, Tensor) or result.shape != relevant.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"{who} returned {got}, expected {tuple(relevant.shape)}.")
        settle = doubts is None
        doubts = doubts or Doubts()
        # A ratio that overflows is no better than an infinite one.
        doubts.note(who, result + result.exp() if axis == "ratio" else result, arguments, relevant)
        if settle:
            doubts.settle(doubts.flags())
        return result


_KL_BY_TOKEN = frozenset(["token_rewards_BT", "kl_rewards_BT"])
