"""Arms as combinations of factors: strategy x learning rate x ..., read from what each was told and not from its name.

A setting in which arms differ is a factor if those before it do not say its value already: `credit.name` comes first (and
stands for all that follows from it), then the other settings of credit, then the rest, the learning rate last. So a rate
that each strategy has of its own is no factor, and two rates for each are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from compare.report.factors import short_name

RATE = "trainer.learning_rate"


@dataclass(frozen=True)
class Factor:
    """A setting and the values it takes, in order of size where they are numbers."""

    key: str
    levels: tuple[str, ...]

    @property
    def name(self) -> str:
        return "strategy" if self.key == "credit.name" else short_name(self.key)

    @property
    def is_number(self) -> bool:
        return all(_number(level) is not None for level in self.levels)


@dataclass(frozen=True)
class Design:
    """`factors[0]` is what is compared, the others are what is tuned for each of its levels. `of`: arm -> its level of each
    factor; no two arms have the same."""

    factors: tuple[Factor, ...]
    of: Mapping[str, tuple[str, ...]]

    @property
    def compared(self) -> Factor:
        return self.factors[0]

    @property
    def tuned(self) -> tuple[Factor, ...]:
        return self.factors[1:]

    def level(self, arm: str) -> str:
        """Its level of what is compared."""
        return self.of[arm][0]

    def arms_at(self, level: str) -> list[str]:
        """The arms at a level of what is compared, in the order of the factors that are tuned."""
        found = [arm for arm, levels in self.of.items() if levels[0] == level]
        return sorted(found, key=self.place)

    def place(self, arm: str) -> tuple[int, ...]:
        return tuple(factor.levels.index(level) for factor, level in zip(self.factors, self.of[arm], strict=True))

    def setting(self, arm: str) -> str:
        """What it was tuned to: `learning_rate 1e-4, beta 0`."""
        pairs = zip(self.tuned, self.of[arm][1:], strict=True)
        return ", ".join(f"{factor.name} {level_text(level)}" for factor, level in pairs)


def design_of(settings: Mapping[str, Mapping[str, str]], compared: str | None = None) -> Design | None:
    """The factors of the arms; None where there are fewer than two that cross, or an arm without settings.

    settings: arm -> setting -> value, for the settings in which arms differ.
    compared: the factor whose levels are compared, by its whole or short name; None: the first.

    Raises:
        ValueError: `compared` is no factor.
    """
    if len(settings) < 3 or not all(settings.values()):
        return _none(compared, ())
    keys = sorted({key for row in settings.values() for key in row}, key=_order)
    chosen: list[str] = []
    for key in keys:
        told: dict[tuple[str, ...], set[str]] = {}
        for row in settings.values():
            told.setdefault(tuple(row.get(one, "") for one in chosen), set()).add(row.get(key, ""))
        if any(len(values) > 1 for values in told.values()):
            chosen.append(key)
    of = {arm: tuple(row.get(key, "") for key in chosen) for arm, row in settings.items()}
    factors = [Factor(key, _in_order({levels[i] for levels in of.values()})) for i, key in enumerate(chosen)]
    if len(factors) < 2 or len(set(of.values())) < len(of):
        return _none(compared, factors)
    if compared:
        first = next((i for i, factor in enumerate(factors) if compared in (factor.key, factor.name)), None)
        if first is None:
            return _none(compared, factors)
        order = [first, *(i for i in range(len(factors)) if i != first)]
        factors = [factors[i] for i in order]
        of = {arm: tuple(levels[i] for i in order) for arm, levels in of.items()}
    design = Design(tuple(factors), of)
    crossed = any(len(design.arms_at(level)) > 1 for level in design.compared.levels)
    return design if crossed else None


def _none(compared: str | None, factors: Sequence[Factor]) -> None:
    if compared:
        there = ", ".join(factor.name for factor in factors) or "none that cross"
        raise ValueError(f"compare={compared} is no factor of these runs; there is {there}.")


def level_text(level: str) -> str:
    """A level as people write it: 0.0001 is 1e-4, credit.weight.constant is constant."""
    number = _number(level)
    if number is None:
        return level.rpartition(".")[2] if level.startswith("credit.") else level or "(not set)"
    if number and not 1e-2 <= abs(number) < 1e5:
        mantissa, exponent = f"{number:.3g}".split("e") if "e" in f"{number:.3g}" else f"{number:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return level


def _order(key: str) -> tuple[bool, bool, bool, bool, bool, str]:
    is_credit = key.startswith(("credit", "weight"))
    target = key.endswith("_target_")
    return (
        key != "credit.name",
        not is_credit,
        is_credit and not target,
        key == RATE,
        not key.startswith("model"),
        key,
    )


def _in_order(levels: set[str]) -> tuple[str, ...]:
    numbers = {level: _number(level) for level in levels}
    if None in numbers.values():
        return tuple(sorted(levels))
    return tuple(sorted(levels, key=lambda level: numbers[level] or 0.0))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
