"""A credit strategy = baseline + spread + weight + ratio. What Hydra instantiates and the trainer executes.

Members are plain callables; what each needs is read off its parameter names (`credit.batch.SIGNALS`), so a new member
is one function and touches nothing else. Every other parameter must have a default or be bound (YAML keys next to
`_target_` bind them).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from credit import baseline as baselines
from credit import ratio as ratios
from credit import spread as spreads
from credit.batch import SIGNALS, Credit, Rollout
from credit.declare import Declaration, compose, declaration_of

Member = Callable[..., Tensor]


@dataclass
class Strategy:
    """The composition. `loss = - sum w[b,t] f(rho[b,t], A[b,t])`.

    Args:
        weight: measure over tokens, see credit/weight.py.
        baseline, spread, ratio: see their modules; default: group mean, broadcast, token.
        unit_mass: rescale the weights to total mass 1 per optimiser batch, so that an ablation over weights does not
            compare step sizes. A batch without tokens keeps mass 0.
        name: shown in logs and reports.
        declares: overrides what the members declare together; keys as in `credit.declare.Declaration`.

    Raises:
        ValueError: a member asks for a signal that does not exist, or that its stage cannot see.
    """

    weight: Member
    baseline: Member = baselines.group_mean
    spread: Member = spreads.broadcast
    ratio: Member = ratios.token
    unit_mass: bool = False
    name: str = "custom"
    declares: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        for axis in _STAGES:
            setattr(self, axis, _unwrapped(getattr(self, axis)))
        self._needs = {axis: _signals_of(axis, getattr(self, axis)) for axis in _STAGES}
        self.is_live = any(SIGNALS[name].stage == "loss" for name in self._needs["spread"])
        for axis, stage in (_STAGES | {"spread": "loss" if self.is_live else "scoring"}).items():
            _check_stage(axis, self._needs[axis], stage)

    @property
    def needs(self) -> frozenset[str]:
        """Names of all signals any member asks for."""
        return frozenset().union(*self._needs.values())

    @property
    def uses_own_ratio(self) -> bool:
        """Whether log rho has to be written over TRL's token ratio."""
        return self.ratio is not ratios.token

    @property
    def declaration(self) -> Declaration:
        """Composed from the members; `declares` has the last word."""
        members = [declaration_of(getattr(self, axis)) for axis in _STAGES]
        # Dividing by the batch's own mass couples its rows, as token_mean does.
        mass = [Declaration(unbiased=False, weight_class="batch", row_constant=True)] if self.unit_mass else []
        composed = compose(*members, *mass)
        return Declaration(**{**composed.__dict__, **self.declares})

    def score(self, rollout: Rollout) -> Credit:
        """Everything that needs the whole batch. Same dtype as `rollout.rewards_B`; 0 at masked tokens.

        Raises:
            ValueError: a member returned the wrong shape, NaN or inf, or a negative weight.
        """
        signals, mask_BT = rollout.signals(), rollout.mask_BT
        dtype, scorable_B = rollout.rewards_B.dtype, ~rollout.rewards_B.isnan()
        advantages_B = self._call("baseline", signals, rollout.rewards_B.shape).to(dtype)
        advantages_B = torch.where(scorable_B, advantages_B, torch.zeros_like(advantages_B))
        signals["advantages_B"] = advantages_B
        advantages_BT = None
        if not self.is_live:
            advantages_BT = self._call("spread", signals, mask_BT.shape).to(dtype)
            advantages_BT = advantages_BT.masked_fill(~(mask_BT & scorable_B[:, None]), 0.0)
        weights_BT = self._call("weight", signals, mask_BT.shape).to(dtype).masked_fill(~mask_BT, 0.0)
        if (weights_BT < 0).any():
            raise ValueError(
                f"The weight of credit strategy {self.name!r} is negative somewhere; weights must be >= 0."
            )
        if self.unit_mass:
            total = weights_BT.sum()
            weights_BT = weights_BT / torch.where(total > 0, total, torch.ones_like(total))
        return Credit(advantages_B=advantages_B, weights_BT=weights_BT, advantages_BT=advantages_BT)

    def live_advantages(self, signals: Mapping[str, Any]) -> Tensor:
        """(B, T) credit of one micro-batch from the live forward pass; 0 at masked tokens. Rows stay independent."""
        mask_BT = signals["mask_BT"]
        scorable_B = ~signals["rewards_B"].isnan()
        values_BT = self._call("spread", signals, mask_BT.shape, check_finite=False)
        return values_BT.masked_fill(~(mask_BT & scorable_B[:, None]), 0.0)

    def log_ratio(self, signals: Mapping[str, Any]) -> Tensor:
        """(B, T) log rho of one micro-batch."""
        return self._call("ratio", signals, signals["mask_BT"].shape, check_finite=False)

    def _call(self, axis: str, signals: Mapping, shape: torch.Size, check_finite: bool = True) -> Tensor:
        missing = sorted(name for name in self._needs[axis] if name not in signals)
        if missing:
            raise ValueError(
                f"The {axis} of credit strategy {self.name!r} needs {', '.join(missing)}, which this run does not "
                f"collect. {'; '.join(f'{name}: {SIGNALS[name].meaning}' for name in missing)}."
            )
        arguments = {name: signals[name] for name in self._needs[axis]}
        with _default_dtype(signals.get("rewards_B")):
            result = getattr(self, axis)(**arguments)
        if not isinstance(result, Tensor) or result.shape != shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"The {axis} of credit strategy {self.name!r} returned {got}, expected {tuple(shape)}.")
        relevant = result if result.dim() == 1 or "mask_BT" not in signals else result[signals["mask_BT"]]
        if axis == "baseline" and "rewards_B" in signals:
            relevant = result[~signals["rewards_B"].isnan()]
        if check_finite and not relevant.isfinite().all():
            raise ValueError(f"The {axis} of credit strategy {self.name!r} returned NaN or inf.")
        return result


_STAGES = {"baseline": "scoring", "spread": "scoring", "weight": "scoring", "ratio": "loss"}


def _signals_of(axis: str, member: Member) -> tuple[str, ...]:
    if not callable(member):
        raise ValueError(f"The {axis} must be a function or a callable object, got {type(member).__name__}.")
    wanted = []
    for parameter in inspect.signature(member).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in SIGNALS:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty:
            near = difflib.get_close_matches(parameter.name, SIGNALS, n=1)
            raise ValueError(
                f"The {axis} {_name(member)} asks for {parameter.name!r}, which is no signal"
                + (f"; did you mean {near[0]!r}?" if near else ".")
                + f" Signals: {', '.join(SIGNALS)}. Anything else needs a default or a value in the YAML."
            )
    return tuple(wanted)


def _check_stage(axis: str, needs: tuple[str, ...], stage: str) -> None:
    blind = [name for name in needs if SIGNALS[name].stage not in (stage, "both")]
    if blind:
        where = (
            "runs in the loss, where rows of other micro-batches are out of sight"
            if stage == "loss"
            else "runs at scoring time, before the live forward pass"
        )
        raise ValueError(f"The {axis} asks for {', '.join(blind)}, but it {where}.")


@contextmanager
def _default_dtype(rewards_B: Tensor | None):
    """Lets `mask / lengths` and the like come out in double where the rewards are double."""
    before = torch.get_default_dtype()
    if rewards_B is None or rewards_B.dtype != torch.float64:
        yield
        return
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _unwrapped(member):
    """A partial that binds nothing is the function itself."""
    return member.func if isinstance(member, partial) and not (member.args or member.keywords) else member


def _name(member) -> str:
    return getattr(member, "__name__", type(member).__name__)
