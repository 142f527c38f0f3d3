"""Each strategy at its best setting, without the bias of having chosen it: chosen on some seeds, compared on the others.

The best of five noisy means is above its own truth, the more so the more were tried; numbers of the seeds that chose
belong to no comparison. And main effects: what one factor does while all others stay, by the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compare import statistics as stats
from compare.report.design import Design, Factor

_Table = Mapping[str, Mapping[str, Mapping[int, float]]]  # arm -> task -> seed -> value
LEFT = 5  # seeds that are left for the comparison, where there are enough


@dataclass(frozen=True)
class Effect:
    """What a level of a factor does, less what `reference` does: the mean over the `settings` of the other factors that
    both were run at, seed by seed."""

    factor: Factor
    level: str
    reference: str
    settings: int
    difference: stats.Difference


@dataclass(frozen=True)
class Tuned:
    """Levels of what is compared, each by the arm that was best on the tuning seeds.

    chosen: level -> arm. found: level -> mean of that arm on the tuning seeds. levels: level -> its score on the test
    seeds; empty without any. tried: level -> arms it was chosen from. edges: level -> what was chosen at an end of what
    was tried, in words.
    """

    design: Design
    reference: str
    tuning: tuple[int, ...]
    test: tuple[int, ...]
    chosen: dict[str, str]
    found: dict[str, float]
    tried: dict[str, int]
    edges: dict[str, str]
    levels: dict[str, stats.Estimate]
    effects: tuple[Effect, ...]

    def table(self, values: _Table) -> dict[str, dict[str, dict[int, float]]]:
        """The values of the chosen arms on the test seeds, by level."""
        return {
            level: {task: {s: v for s, v in seeds.items() if s in self.test} for task, seeds in values[arm].items()}
            for level, arm in self.chosen.items()
        }


def split_seeds(seeds: Sequence[int], asked: Sequence[int] | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(tuning, test): the seeds asked for, else the lowest ones: half of them, or fewer so that five are left to compare on,
    but one at least. One seed alone chooses, and nothing is compared.

    Raises:
        ValueError: a seed asked for that no run has.
    """
    seeds = sorted(seeds)
    if asked is not None:
        if strange := [seed for seed in asked if seed not in seeds]:
            raise ValueError(
                f"tuning_seeds={strange[0]}: no run has that seed; there are {', '.join(map(str, seeds))}."
            )
        return tuple(sorted(set(asked))), tuple(seed for seed in seeds if seed not in asked)
    count = max(1, min(len(seeds) // 2, len(seeds) - LEFT))
    return tuple(seeds[:count]), tuple(seeds[count:])


def tune(
    design: Design,
    values: _Table,
    seeds: Sequence[int],
    reference: str,
    lower_is_better: bool = False,
    asked: Sequence[int] | None = None,
    level: float = 0.95,
) -> Tuned:
    """Chooses for each level of what is compared. An arm that lacks a run which another of its level has on the tuning seeds
    is no candidate; of equals, the first in the order of the factors.

    Raises:
        ValueError: see `split_seeds`.
    """
    tuning, test = split_seeds(seeds, asked)
    sign = -1.0 if lower_is_better else 1.0
    chosen, found, tried, edges = {}, {}, {}, {}
    for name in design.compared.levels:
        arms = design.arms_at(name)
        runs = {arm: {(t, s): v for t, by in values[arm].items() for s, v in by.items() if s in tuning} for arm in arms}
        most = max(map(len, runs.values()))
        full = [arm for arm in arms if len(runs[arm]) == most > 0]
        if not full:
            continue
        means = {arm: _mean_of_tasks(runs[arm]) for arm in full}
        best = max(full, key=lambda arm: sign * means[arm])
        chosen[name], found[name], tried[name] = best, means[best], len(full)
        if edge := _edge(design, best, full):
            edges[name] = edge
    if reference not in chosen:
        reference = next(iter(chosen), reference)
    tuned = Tuned(
        design, reference, tuning, test, chosen, found, tried, edges, {}, _effects(design, values, reference, level)
    )
    scores = {name: [list(s.values()) for s in by.values() if s] for name, by in tuned.table(values).items()}
    interval: Callable = stats.mean_interval if lower_is_better else stats.iqm_interval
    return Tuned(**{**tuned.__dict__, "levels": {n: interval(s, level) for n, s in scores.items() if s}})


def _mean_of_tasks(runs: Mapping[tuple[str, int], float]) -> float:
    tasks: dict[str, list[float]] = {}
    for (task, _), value in runs.items():
        tasks.setdefault(task, []).append(value)
    return float(np.mean([np.mean(each) for each in tasks.values()]))


def _edge(design: Design, best: str, tried: Sequence[str]) -> str:
    """Where the best is the lowest or highest of a number, and more than two were tried: `the highest learning_rate`."""
    for i, factor in enumerate(design.tuned, start=1):
        levels = [level for level in factor.levels if level in {design.of[arm][i] for arm in tried}]
        if factor.is_number and len(levels) > 2 and design.of[best][i] in (levels[0], levels[-1]):
            end = "lowest" if design.of[best][i] == levels[0] else "highest"
            return f"the {end} {factor.name} tried"
    return ""


def _effects(design: Design, values: _Table, reference: str, level: float) -> tuple[Effect, ...]:
    effects = []
    for i, factor in enumerate(design.factors):
        by: dict[str, dict[tuple[str, ...], str]] = {}  # level -> the other factors' -> arm
        for arm, levels in design.of.items():
            by.setdefault(levels[i], {})[levels[:i] + levels[i + 1 :]] = arm
        most = max(
            factor.levels, key=lambda one: sum(len(by[one].keys() & by[other].keys()) for other in factor.levels)
        )
        base = reference if i == 0 and reference in by else most
        for one in factor.levels:
            shared = sorted(by[one].keys() & by[base].keys())
            if one != base and shared:
                pairs = [(values[by[one][other]], values[by[base][other]]) for other in shared]
                if differences := _seed_differences(pairs):
                    zeros = [np.zeros(len(task)) for task in differences]
                    found = stats.paired_difference(differences, zeros, level)
                    effects.append(Effect(factor, one, base, len(shared), found))
    return tuple(effects)


def _seed_differences(pairs: Sequence[tuple[Mapping, Mapping]]) -> list[np.ndarray]:
    """A vector for each task: seed by seed, the mean difference over the pairs, for seeds that every pair has."""
    found = []
    for task in sorted({task for ours, _ in pairs for task in ours}):
        shared = [set(ours.get(task, {})) & set(theirs.get(task, {})) for ours, theirs in pairs]
        if seeds := sorted(set.intersection(*shared)):
            found.append(
                np.array([np.mean([ours[task][s] - theirs[task][s] for ours, theirs in pairs]) for s in seeds])
            )
    return found
