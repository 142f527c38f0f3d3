"""Is a strategy what it declares to be? Checked by enumeration on small worlds, never by sampling.

"unbiased" in credit/declare.py means: the expected on-policy update points exactly along the gradient of E[R] (any
scale), for groups of at least two, whatever the critic. So
    declared unbiased   the relative bias is at most ROUNDING_BIAS in every world, group size and critic tried, and
                        nothing drifts where the true gradient is zero;
    declared biased     it is at least VISIBLE_BIAS in some world. One is enough: an honest bias may hide in others (a
                        length bias where all texts are equally long, a z-score where all prompts are equally hard).
The gap between the two thresholds is wide on purpose; what falls into it is a finding, not a pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from credit.strategy import Strategy
from lab.exact.quantities import Exact, exact
from lab.exact.worlds import world
from lab.measure.estimate import Budget, Measurement, is_enumerable, measure
from lab.measure.metrics import nothing_learned

ROUNDING_BIAS = 1e-9
VISIBLE_BIAS = 1e-3
WORLDS = ("tiny", "tiny_turn", "tiny_turn:transformer", "levels", "poison", "two_turn", "coin")
TURN_WORLDS = ("quarry", "chores", "search")  # for strategies that credit turns; more texts, so they come last
GROUP_SIZES = (4, 3, 2)
EXACT_ONLY = Budget(groups=20_000, calls=800, sampled_groups=0, sampled_calls=0)


@dataclass(frozen=True)
class Finding:
    """What enumeration found out about a strategy.

    declared: True, False or None (nothing claimed). measured: True (unbiased in everything tried), False (biased
    somewhere), None (between the thresholds, or nothing learned anywhere). worst, where: the largest bias and the world it was
    seen in. measurements: how many. nothing: worlds in which the mean update is zero; they show no bias and no lack of one.
    """

    strategy: str
    declared: bool | None
    measured: bool | None
    worst: float
    where: str
    measurements: int
    nothing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether measurement bears out the claim; no claim cannot be wrong."""
        return self.declared is None or self.declared is self.measured

    def __str__(self) -> str:
        words = {True: "unbiased", False: "biased", None: "undecided"}
        claim = "declares nothing" if self.declared is None else f"declares to be {words[self.declared]}"
        verdict = "" if self.agrees else "WRONG DECLARATION: "
        if not self.measurements:
            return f"{verdict}{self.strategy} {claim}, and learned nothing: its mean update is zero in {', '.join(self.nothing)}."
        return (
            f"{verdict}{self.strategy} {claim} and was measured {words[self.measured]}: largest bias {self.worst:.2g} "
            f"({self.where}) in {self.measurements} enumerations."
        )


def credits_turns(strategy: Strategy) -> bool:
    """Whether it gives turns credit of their own, so that it is to be measured in worlds that have some."""
    return strategy.pays_by_turn or bool(strategy.needs & {"piece_BT", "state_BT"})


@lru_cache(maxsize=64)
def enumerated(name: str) -> Exact:
    """The world of a name like "poison" or "poison:transformer".

    Raises:
        ValueError: no such world or policy.
    """
    world_name, _, policy = name.partition(":")
    return exact(world(world_name), policy or "tabular")


def bias_of(found: Measurement) -> float:
    """The relative bias; where the true gradient is zero, the drift."""
    relative = found["relative_bias"]
    return found["drift"] if math.isnan(relative) else relative


def verdict(biases: Iterable[float]) -> bool | None:
    """True: unbiased; False: biased; None: between the thresholds, or nothing measured."""
    worst = max(biases, default=math.nan)
    if worst <= ROUNDING_BIAS:
        return True
    return False if worst >= VISIBLE_BIAS else None


def check_declaration(
    strategy: Strategy, worlds: Iterable[str] | None = None, budget: Budget = EXACT_ONLY, declared: bool | None = None
) -> Finding:
    """Measures a strategy by enumeration and compares it with `strategy.declaration.unbiased`.

    Each world is tried with the largest group size whose batches can be enumerated. A claim of bias ends the search at
    the first world that shows it.

    Args:
        worlds: None: `WORLDS`, and `TURN_WORLDS` if the strategy credits turns.
        declared: overrides the strategy's own claim.

    Raises:
        ValueError: the strategy needs what the lab has not, or no world could be enumerated.
    """
    claim = strategy.declaration.unbiased if declared is None else declared
    worlds = worlds or (WORLDS + (TURN_WORLDS if credits_turns(strategy) else ()))
    worst, where, number, learned, nothing = -1.0, "", 0, 0, []
    for name in worlds:
        for critic in ("random", "perfect") if strategy.needs_values else ("perfect",):
            found = largest_enumeration(enumerated(name), strategy, critic, budget)
            if found is None:
                continue
            if nothing_learned(found.metrics):
                nothing += [] if name in nothing else [name]
                continue
            number += 1
            learned += not math.isnan(found["relative_bias"])
            if bias_of(found) > worst:
                worst, where = bias_of(found), f"{name}, groups of {found.group_size}"
        if claim is False and worst >= VISIBLE_BIAS:
            break
    if not number and not nothing:
        raise ValueError(f"No world is small enough to enumerate strategy {strategy.name!r}; raise the budget.")
    if nothing and not learned:  # where the true gradient is zero, learning nothing is no merit
        return Finding(strategy.name, claim, None, 0.0, "", 0, tuple(nothing))
    measured = verdict([worst])
    return Finding(strategy.name, claim, measured, worst, where, number, tuple(nothing))


def largest_enumeration(
    learner: Exact,
    strategy: Strategy,
    critic: str = "perfect",
    budget: Budget = EXACT_ONLY,
    sizes: Iterable[int] = GROUP_SIZES,
) -> Measurement | None:
    """The measurement with the first of the group sizes that can be enumerated; None if none can."""
    for size in sizes:
        if is_enumerable(learner, strategy, size, budget):
            return measure(learner, strategy, size, critic=critic, budget=budget)
    return None
