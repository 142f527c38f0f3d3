"""`python -m compare.report.coverage [sweeps=2500] [out=DIR]`: do the report's intervals cover, and does its rule keep quiet?

Simulates sweeps with a known truth and asks the report's own functions about them. Prints a table for each interval and
the false alarms of the decision rule; with `out`, also coverage.csv. docs/compare/report.md quotes the numbers.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compare import statistics as stats
from compare.read import Run, Study
from compare.report.analysis import MEASURES, MIN_PAIRS, Options, analyse, compare
from userio.words import word_of

Array = NDArray[np.float64]
Shape = Callable[[np.random.Generator, tuple[int, ...]], Array]
SEEDS = (3, 5, 10)
SHIFT = 0.07  # the known difference
STEPS, ROWS = 40, 128  # of a simulated run, and completions a step


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Bell-shaped, standard deviation 0.1."""
    return generator.normal(0.0, 0.1, shape)


def beta(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores near a ceiling: skewed to the left."""
    return generator.beta(6, 2, shape)


def learned_or_not(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A run in three never gets off the ground."""
    return np.where(generator.random(shape) < 2 / 3, 0.9, 0.2) + generator.normal(0, 0.05, shape)


def eight_questions(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Graded on eight questions: ties."""
    return generator.binomial(8, 0.7, shape) / 8


def lognormal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Strong skew to the right."""
    return generator.lognormal(0.0, 1.0, shape) / 10


SHAPES: tuple[Shape, ...] = (normal, beta, learned_or_not, eight_questions, lognormal)


@dataclass(frozen=True)
class Share:
    """Of `sweeps` simulated sweeps, the share that covered (or, for alarms, declared a difference)."""

    what: str
    method: str
    shape: str
    seeds: int
    share: float
    sweeps: int

    @property
    def error(self) -> float:
        """Standard error of the share."""
        return float(np.sqrt(max(self.share * (1 - self.share), 1e-9) / self.sweeps))


def paired_differences(shape: Shape, seeds: int, sweeps: int, seed: int = 1) -> Iterator[Share]:
    """Two arms that share what their seed does to both; the true difference is `SHIFT`. Beside it the percentile bootstrap."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 0.2, (sweeps, seeds))
    ours, theirs = common + SHIFT + shape(generator, (sweeps, seeds)), common + shape(generator, (sweeps, seeds))
    found = [stats.paired_difference([a], [b]) for a, b in zip(ours, theirs, strict=True)]
    inside = [i.low <= SHIFT <= i.high for i in found]
    yield Share("paired difference", "Student's t", shape.__name__, seeds, float(np.mean(inside)), sweeps)
    means = _resampled(generator, ours - theirs, 500).mean(axis=2)
    yield Share(
        "paired difference", "percentile bootstrap (not used)", shape.__name__, seeds, _held(means, SHIFT), sweeps
    )


def skewed_differences(sigma: float, seeds: int, sweeps: int, seed: int = 7) -> Share:
    """Differences that are lognormal themselves: what skew costs the t interval. Closed form of Student's, vectorised."""
    generator = np.random.default_rng(seed)
    data = generator.lognormal(0.0, sigma, (sweeps, seeds))
    half = stats.distributions.t.ppf(0.975, seeds - 1) * data.std(axis=1, ddof=1) / np.sqrt(seeds)
    inside = np.abs(data.mean(axis=1) - np.exp(sigma**2 / 2)) <= half
    name = f"lognormal differences, sigma {sigma:g}"
    return Share("paired difference", "Student's t", name, seeds, float(np.mean(inside)), sweeps)


def iqm_levels(shape: Shape, seeds: int, sweeps: int, seed: int = 2) -> Iterator[Share]:
    """The level of one arm; the truth is the IQM of a million runs."""
    generator = np.random.default_rng(seed)
    truth = stats.iqm([shape(generator, (1_000_000,))])
    data = shape(generator, (sweeps, seeds))
    found = [stats.iqm_interval([row], resamples=1000, seed=i) for i, row in enumerate(data)]
    inside = [i.low <= truth <= i.high for i in found]
    yield Share("IQM", "bootstrap, Student's tails", shape.__name__, seeds, float(np.mean(inside)), sweeps)
    cut = seeds // 4
    ordered = np.sort(_resampled(generator, data, 500), axis=2)[:, :, cut : seeds - cut]
    yield Share(
        "IQM", "percentile bootstrap (not used)", shape.__name__, seeds, _held(ordered.mean(axis=2), truth), sweeps
    )


def improvements(shift: float, seeds: int, sweeps: int, seed: int = 3) -> Iterator[Share]:
    """Normal scores `shift` standard deviations apart: the truth is Phi(shift / sqrt 2)."""
    generator = np.random.default_rng(seed)
    truth = stats.distributions.norm.cdf(shift / np.sqrt(2))
    pairs = zip(generator.normal(shift, 1, (sweeps, seeds)), generator.normal(0, 1, (sweeps, seeds)), strict=True)
    found = [stats.probability_of_improvement([a], [b]) for a, b in pairs]
    inside = [i.low <= truth <= i.high for i in found]
    name = f"normal, {shift:g} sd apart"
    yield Share("P(improvement)", "Mann-Whitney, logit t", name, seeds, float(np.mean(inside)), sweeps)


def false_alarms(shape: Shape, seeds: int, sweeps: int, arms: int = 4, seed: int = 4) -> Share:
    """One strategy under `arms` names: the share of sweeps that declare any of them different from the first."""
    generator = np.random.default_rng(seed)
    alarms = 0
    for scores in shape(generator, (sweeps, arms, seeds)):
        table = {f"arm{i}": {"task": dict(enumerate(map(float, row)))} for i, row in enumerate(scores)}
        alarms += any(comparison.declared for comparison in compare(table, "arm0"))
    return Share("false alarms", f"{arms} names, Holm", shape.__name__, seeds, alarms / sweeps, sweeps)


def false_alarms_of_t(shape: Shape, seeds: int, sweeps: int = 100_000, arms: int = 4, seed: int = 8) -> Share:
    """The same rule below six pairs, where it is Student's test alone, all sweeps at once: Holm declares something when
    the smallest of its p-values is below 5 % over the number of comparisons."""
    generator = np.random.default_rng(seed)
    scores = shape(generator, (sweeps, arms, seeds))
    differences = scores[:, 1:] - scores[:, :1]
    error = differences.std(axis=2, ddof=1) / np.sqrt(seeds)
    limit = stats.distributions.t.ppf(1 - 0.05 / (2 * (arms - 1)), seeds - 1)
    share = float(np.mean(np.any((np.abs(differences.mean(axis=2)) > limit * error) & (error > 0), axis=1)))
    return Share("false alarms", f"{arms} names, Holm, t alone", shape.__name__, seeds, share, sweeps)


def simulated_study(generator: np.random.Generator, seeds: int, shift: float, arms: int = 2) -> Study:
    """Learning curves: what a seed does is shared, every run has luck of its own, every step the noise of its batch;
    all arms but the first end `shift` higher, by a gap that opens in proportion to the tokens."""
    grid = np.arange(1, STEPS + 1)
    runs = []
    for seed in range(seeds):
        top, pace = 0.6 + generator.normal(0, 0.08), generator.uniform(5, 15)
        for arm in range(arms):
            mean = top * (1 - np.exp(-grid / pace)) + generator.normal(0, 0.04) * grid / STEPS
            height = mean + generator.normal(0, 0.4 / np.sqrt(ROWS), STEPS) + (shift * grid / STEPS if arm else 0.0)
            columns = {"step": grid.astype(float), "generated_tokens": 4000.0 * grid, "reward": height}
            runs.append(Run(Path(), "task", f"arm{arm}", seed, columns, True))
    return Study(tuple(runs), (), {}, ())


def whole_reports(seeds: int, sweeps: int, seed: int = 5) -> Iterator[Share]:
    """From curves to intervals, by `analyse`, with differences that are known exactly."""
    generator = np.random.default_rng(seed)
    window = max(1, round(STEPS / 10))
    last = SHIFT * (STEPS - (window - 1) / 2) / STEPS  # mean over the window of a gap that grows with the step
    truth = {"final": last, "final_steps": last, "auc": SHIFT * (1 + STEPS) / 2 / STEPS}
    inside: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(sweeps):
        result = analyse(simulated_study(generator, seeds, SHIFT), Options(reference="arm0"))
        for name, value in truth.items():
            (row,) = result.comparisons[name]
            inside[name].append(bool(row.difference.low <= value <= row.difference.high))
    for name, found in inside.items():
        yield Share("whole report", MEASURES[name], "curves", seeds, float(np.mean(found)), sweeps)


def whole_alarms(seeds: int, sweeps: int, seed: int = 6) -> Iterator[Share]:
    """One strategy under three names, from curves to verdicts, for every measure a sweep may decide by."""
    generator = np.random.default_rng(seed)
    alarms: dict[str, int] = {}
    for _ in range(sweeps):
        study = simulated_study(generator, seeds, 0.0, arms=3)
        for name, rows in analyse(study, Options(reference="arm0")).comparisons.items():
            alarms[name] = alarms.get(name, 0) + any(row.declared for row in rows)
    for name, count in alarms.items():
        yield Share("false alarms", f"3 names, {MEASURES[name]}", "curves", seeds, count / sweeps, sweeps)


def everything(sweeps: int) -> Iterator[Share]:
    for seeds in SEEDS:
        for shape in SHAPES:
            yield from paired_differences(shape, seeds, sweeps)
            yield from iqm_levels(shape, seeds, sweeps)
            yield false_alarms(shape, seeds, sweeps)
            if MIN_PAIRS <= seeds < 6:
                yield false_alarms_of_t(shape, seeds)
        for sigma in (0.5, 1.0):
            yield skewed_differences(sigma, seeds, sweeps)
        for shift in (0.0, 0.8, 1.5):
            yield from improvements(shift, seeds, sweeps)
        yield from whole_reports(seeds, sweeps // 2)
        yield from whole_alarms(seeds, sweeps // 2)


def table(shares: Sequence[Share]) -> str:
    """Markdown: one row for each interval and shape, a column for each number of seeds, in percent."""
    keys = sorted(dict.fromkeys((s.what, s.method, s.shape) for s in shares))
    lines = [
        "| interval | method | runs | " + " | ".join(f"{n} seeds" for n in SEEDS) + " |",
        "|" + "---|" * (3 + len(SEEDS)),
    ]
    for key in keys:
        by_seeds = {s.seeds: s for s in shares if (s.what, s.method, s.shape) == key}
        cells = [f"{100 * by_seeds[n].share:.1f} %" if n in by_seeds else "" for n in SEEDS]
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    worst = max(share.error for share in shares)
    return "\n".join([*lines, "", f"Standard error of a share: at most {100 * worst:.1f} percentage points."])


def _resampled(generator: np.random.Generator, data: Array, resamples: int) -> Array:
    """(sweeps, resamples, seeds)"""
    draws = generator.integers(0, data.shape[1], (len(data), resamples, data.shape[1]))
    return np.take_along_axis(data[:, None, :], draws, axis=2)


def _held(resampled: Array, truth: float) -> float:
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    return float(np.mean((low <= truth) & (truth <= high)))


def main(arguments: Sequence[str]) -> int:
    chosen = {word.key: word.text for word in map(word_of, arguments)}
    if unknown := chosen.keys() - {"sweeps", "out"}:
        print(
            __doc__
            if "-h" in unknown or "--help" in unknown
            else f"compare.report.coverage: no option {', '.join(unknown)}; there is sweeps=, out=."
        )
        return 0 if {"-h", "--help"} & unknown else 2
    shares = list(everything(int(chosen.get("sweeps", 2500))))
    print(table(shares))
    if "out" in chosen:
        folder = Path(chosen["out"])
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "coverage.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*asdict(shares[0]), "error"])
            writer.writeheader()
            writer.writerows(asdict(share) | {"error": share.error} for share in shares)
    return 0


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    raise SystemExit(main(sys.argv[1:]))
