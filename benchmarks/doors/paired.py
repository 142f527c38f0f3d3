"""What the span benchmarks share: arms with the same seeds, their paired ratio with an interval, picture and data."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from compare.curves import smoothed
from compare.report.drawing import COLOURS, GREY, STYLES
from compare.statistics import mean_interval, paired_difference


@dataclass
class Arm:
    """One strategy: entry i of each list is seed i. `completions` is None where the run never reached the target."""

    completions: list[int | None]
    reward: list[list[float]]
    budget: int  # completions of a whole run

    @property
    def censored(self) -> list[int]:
        return [count or self.budget for count in self.completions]

    def line(self) -> str:
        """Mean completions with Student's 95 % interval; a run that never arrived counts with its budget."""
        mean = mean_interval([self.censored])
        arrived = sum(count is not None for count in self.completions)
        return (
            f"completions {mean.value:,.0f} [{mean.low:,.0f}, {mean.high:,.0f}], median "
            f"{statistics.median(self.censored):,.0f}, {arrived}/{len(self.completions)} arrived"
        )


@dataclass
class Ratio:
    """Geometric mean over seeds, with Student's 95 % interval on the logarithms."""

    ratio: float
    low: float
    high: float
    seeds: int
    censored: int  # pairs in which an arm never arrived and counts with its budget

    def line(self) -> str:
        note = f", {self.censored} of them with a run that did not arrive" if self.censored else ""
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] paired over {self.seeds} seeds{note}"


def ratio(arm: Arm, reference: Arm) -> Ratio:
    """Completions of `arm` over those of `reference`, seed by seed."""
    logs = [[math.log(count) for count in one.censored] for one in (arm, reference)]
    gap = paired_difference([logs[0]], [logs[1]])
    censored = sum(None in pair for pair in zip(arm.completions, reference.completions, strict=True))
    return Ratio(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high), gap.seeds, censored)


@dataclass
class Gap:
    """Mean paired difference with Student's 95 % interval."""

    difference: float
    low: float
    high: float
    seeds: int

    def line(self) -> str:
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] paired over {self.seeds} seeds"


def gap(values: list[float], reference: list[float]) -> Gap:
    """`values` minus `reference`, seed by seed."""
    found = paired_difference([values], [reference])
    return Gap(found.value, found.low, found.high, found.seeds)


def write_json(file: Path, arms: dict[str, Arm], table: dict, more: dict) -> None:
    """What the table and the picture are made of; of long reward curves every 5th step."""
    data = {**more, "compared": {name: asdict(value) for name, value in table.items()}}
    every = 5 if max(len(curve) for arm in arms.values() for curve in arm.reward) > 100 else 1
    data |= {"reward_every": every, "arms": {}}
    for name, arm in arms.items():
        curves = [[round(value, 3) for value in curve[::every]] for curve in arm.reward]
        data["arms"][name] = {"completions": arm.completions, "reward": curves}
    file.write_text(json.dumps(data) + "\n")


def draw(file: Path, arms: dict[str, Arm], title: str, rows: int, window: int, target: float | None = None) -> None:
    """Mean reward, from 0 to 1, with its pointwise 95 % interval over completions; a run that has arrived keeps its last value."""
    many = len(arms) > 4  # then the legend stands beside the axes
    figure, axes = plt.subplots(figsize=(8.4 if many else 6.4, 3.6), layout="constrained")
    for i, (name, arm) in enumerate(arms.items()):
        longest = max(len(curve) for curve in arm.reward)
        curves = np.array([np.pad(smoothed(c, window), (0, longest - len(c)), mode="edge") for c in arm.reward])
        x, mean, colour = np.arange(1, longest + 1) * rows, curves.mean(0), COLOURS[i % len(COLOURS)]
        half = np.array([mean_interval([column]).high for column in curves.T]) - mean
        axes.fill_between(
            x, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1), color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(x, mean, color=colour, linestyle=STYLES[i % len(STYLES)], linewidth=1.8, label=name)
    if target is not None:
        axes.axhline(target, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("completions")
    axes.set_ylabel("reward")
    axes.spines[["top", "right"]].set_visible(False)
    if many:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(file, dpi=160)
    plt.close(figure)
