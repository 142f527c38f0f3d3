"""Bias of the mean update's direction and noise of strategies over worlds of the lab, and the rows of a table of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from configs.compose import named_strategy
from lab.exact.quantities import exact
from lab.exact.worlds import world
from lab.measure.estimate import Budget, measure


def measured(
    name: str, strategies: Mapping[str, str], group: int, budget: Budget, yardstick: str
) -> dict[str, dict[str, float]]:
    """In one world, of each label: `bias`, relative; its standard `error`; `nsr`; `exact`; `noise`, nsr over the yardstick's.

    Args:
        strategies: label -> what a command would say. yardstick: one of the labels. group: completions of a prompt.
    """
    start, found = exact(world(name)), {}
    for label, words in strategies.items():
        result = measure(start, named_strategy(words), group, budget=budget)
        error = result.errors.get("relative_bias", 0.0)
        found[label] = {"bias": result["relative_bias"], "error": error, "nsr": result["nsr"], "exact": result.exact}
        print(f"{name:<8} {label:<26} {found[label]}", flush=True)
    for entry in found.values():
        entry["noise"] = entry["nsr"] / found[yardstick]["nsr"]
    return found


def table(worlds: Mapping[str, Mapping[str, Mapping[str, float]]], labels: Iterable[str]) -> str:
    """A row for each label: its bias in each world, then its noise."""
    lines = []
    for label in labels:
        entries = [found[label] for found in worlds.values()]
        biases = [f"{entry['bias']:.3f}" if entry["bias"] >= 1e-9 else "0" for entry in entries]
        lines.append("| " + " | ".join([label, *biases, *(f"{entry['noise']:.2f}" for entry in entries)]) + " |")
    return "\n".join(lines)
