"""Measures a credit strategy against the truth: `measure(exact_world, strategy) -> Measurement`.

A batch holds one group of G completions for every prompt of the world. Batches are enumerated where that fits the
budget; else they are sampled (common random numbers) with control variates whose mean is known exactly, and standard
errors are reported. lab/measure/metrics.py says what each number means; docs/credit/lab.md how to read them.

Shapes: n batches, or groups.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from credit import baseline, spread, weight
from credit.strategy import Strategy
from lab.exact.quantities import Exact
from lab.measure.batches import (
    Block,
    Items,
    count_groups,
    every_batch,
    every_group,
    every_row,
    itemise,
    sampled_batches,
)
from lab.measure.metrics import WORST_BIAS, alignment, direction, step_gain
from lab.measure.moments import Moments, moments
from lab.measure.scoring import Coupling, Scorer

PIECES = 16


@dataclass(frozen=True)
class Budget:
    """How much may be enumerated, and how much is sampled instead.

    groups: groups of each prompt that are enumerated at most (strategies without coupling between groups).
    calls: batches enumerated at most where each needs a call of its own (coupled strategies).
    sampled_groups, sampled_calls: the size of the sample otherwise.
    """

    groups: int = 40_000
    calls: int = 400
    sampled_groups: int = 4096
    sampled_calls: int = 192


FULL = Budget(groups=300_000, calls=20_000, sampled_groups=65_536, sampled_calls=4096)


@dataclass
class Measurement:
    """What a strategy does in a world. Metrics as in lab/measure/metrics.py; errors are standard errors, 0 when enumerated.

    exact: enumerated, not sampled. batches: how many groups or batches were looked at. coupling: whom a row's
    update depends on, see `lab.measure.scoring.Coupling`. noise_floor: the relative bias that sampling noise alone would show.
    """

    strategy: str
    world: str
    group_size: int
    exact: bool
    coupling: str
    sees_texts: bool
    batches: int
    seconds: float
    metrics: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    mean_D: Tensor | None = None
    covariance_DD: Tensor | None = None

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def record(self) -> dict:
        """Plain numbers for JSON; undefined ones are None."""
        plain = asdict(replace(self, mean_D=None, covariance_DD=None))
        del plain["mean_D"], plain["covariance_DD"]
        for part in ("metrics", "errors"):
            plain[part] = {key: value if math.isfinite(value) else None for key, value in plain[part].items()}
        return plain


def rloo() -> Strategy:
    """The yardstick: leave-one-out baseline, whole-sequence weight; unbiased with scale 1."""
    return Strategy(weight.seq_sum, baseline.leave_one_out, spread.broadcast, name="rloo")


def measure(
    learner: Exact,
    strategy: Strategy,
    group_size: int = 4,
    *,
    critic: str = "perfect",
    sampler: Exact | None = None,
    surrogate: str = "clip",
    budget: Budget = Budget(),
    covariance: bool = False,
    seed: int = 0,
) -> Measurement:
    """Mean, noise and credit quality of a strategy's gradient estimate.

    Args:
        learner: the live policy; the truth is its gradient. sampler: the policy the texts come from, if another.
        group_size: completions of each prompt in a batch.
        critic, surrogate: see `lab.measure.scoring.Scorer`.
        covariance: also return the covariance matrix (small worlds).

    Raises:
        ValueError: the strategy needs what the lab has not, or a member misbehaved.
    """
    started = time.perf_counter()
    scorer = Scorer(strategy, learner, sampler, critic, surrogate)
    coupling, items, plan = _prepare(scorer, group_size, budget)
    errors: dict[str, float] = {}
    if plan is not None:
        found = moments(scorer, items, plan(items, learner.prompts, group_size), coupling, covariance)
        metrics = direction(found.mean_D, found.variance, learner) | {"noise_floor": 0.0}
    else:
        found, metrics, errors = _sampled(scorer, items, coupling, group_size, budget, covariance, seed)
    metrics |= step_gain(found.mean_D, learner) | alignment(found, items)
    return Measurement(
        strategy=strategy.name,
        world=learner.tree.world.name,
        group_size=group_size,
        exact=plan is not None,
        coupling=coupling.level,
        sees_texts=scorer.sees_texts,
        batches=found.batches,
        seconds=time.perf_counter() - started,
        metrics=metrics,
        errors=errors,
        mean_D=found.mean_D,
        covariance_DD=found.covariance_DD,
    )


def is_enumerable(learner: Exact, strategy: Strategy, group_size: int, budget: Budget = Budget()) -> bool:
    """Whether `measure` would enumerate, on-policy, rather than sample."""
    return _prepare(Scorer(strategy, learner), group_size, budget)[2] is not None


def _prepare(scorer: Scorer, group_size: int, budget: Budget):
    """(coupling, items, plan); the plan is None when enumeration does not fit the budget."""
    learner = scorer.learner
    coupling = scorer.coupling(learner.prompts, group_size)
    items = itemise(learner, scorer.sampler or learner, scorer.sees_texts)
    sizes = [count_groups(items, prompt, group_size) for prompt in range(learner.prompts)]
    return coupling, items, _plan(coupling, len(items.prob_I), sizes, budget)


def _plan(coupling: Coupling, count: int, sizes: list[int], budget: Budget):
    """The enumeration that fits the budget, None if none does."""
    if coupling.level == "rows" and count <= budget.groups:
        return every_row
    if coupling.level == "batch":
        return every_batch if math.prod(sizes) <= budget.calls else None
    return every_group if max(sizes) <= budget.groups else None


def _sampled(
    scorer: Scorer,
    items: Items,
    coupling: Coupling,
    size: int,
    budget: Budget,
    covariance: bool,
    seed: int,
) -> tuple[Moments, dict[str, float], dict[str, float]]:
    """The metrics from a sample, with control variates and jackknife errors over PIECES pieces of the sample."""
    learner, coupled = scorer.learner, coupling.level == "batch"
    number = budget.sampled_calls if coupled else budget.sampled_groups
    blocks = sampled_batches(items, learner.prompts, size, number, seed, coupled)
    found = moments(scorer, items, blocks, coupling, covariance, keep_estimates=True)
    controls = _controls(scorer, items, blocks, coupled, size, budget)
    # Rows of every block added up: one estimate of the whole batch for each draw.
    estimate_nD = torch.stack(found.estimates).sum(dim=0)
    if controls:
        centred = torch.stack([(part - part.mean(dim=0)).flatten() for part, _ in controls])
        target = (estimate_nD - estimate_nD.mean(dim=0)).flatten()
        gram = centred @ centred.T
        slope = torch.linalg.lstsq(gram, (centred @ target)[:, None], driver="gelsd").solution.flatten()
        for beta, (part_nD, known_D) in zip(slope, controls, strict=True):
            estimate_nD = estimate_nD - beta * (part_nD - known_D)
    found.mean_D = estimate_nD.mean(dim=0)
    pieces = estimate_nD.split(math.ceil(number / PIECES))
    total_D = estimate_nD.sum(dim=0)
    left_out = [
        direction((total_D - piece.sum(dim=0)) / (number - len(piece)), found.variance, learner) for piece in pieces
    ]
    metrics = direction(found.mean_D, found.variance, learner)
    errors = {}
    for name in metrics:
        values = torch.tensor([each[name] for each in left_out], dtype=torch.float64)
        spread_of = (values - values.mean()).square().sum() * (len(pieces) - 1) / len(pieces)
        errors[name] = float(spread_of.sqrt())
    # The squared norm of a noisy residual is too large by its variance: take that out.
    residual = float((estimate_nD - found.mean_D).square().sum()) / (number * (number - 1))
    truth = abs(metrics["scale"]) * float(learner.reward_gradient.norm())
    metrics["noise_floor"] = math.sqrt(residual) / truth if truth > 0 else math.nan
    # Near zero the norm is skewed and the jackknife too sure of itself.
    errors["relative_bias"] = max(errors["relative_bias"], metrics["noise_floor"] / 2)
    if metrics["relative_bias"] < WORST_BIAS:  # which is no number of size, but says backwards
        metrics["relative_bias"] = math.sqrt(max(metrics["relative_bias"] ** 2 - metrics["noise_floor"] ** 2, 0.0))
    return found, metrics, errors


def _controls(
    scorer: Scorer, items: Items, blocks: list[Block], coupled: bool, size: int, budget: Budget
) -> list[tuple[Tensor, Tensor]]:
    """Strategies close to the measured one, on the same draws, with their exact mean: [(estimates_nD, mean_D)]."""
    learner, sampler = scorer.learner, scorer.sampler
    candidates = [rloo()]
    if coupled:
        candidates += [replace(scorer.strategy, weight=weight.constant, unit_mass=False)]
        candidates += [replace(candidates[1], baseline=baseline.group_mean)]
    controls = []
    for candidate in candidates:
        other = Scorer(candidate, learner, sampler, scorer.critic, scorer.surrogate)
        coupling, known_items, plan = _prepare(other, size, budget)
        if plan is None or coupling.level == "batch":
            continue
        known = moments(other, known_items, plan(known_items, learner.prompts, size), coupling)
        same = moments(other, items, blocks, coupling, keep_estimates=True)
        controls.append((torch.stack(same.estimates).sum(dim=0), known.mean_D))
    return controls
