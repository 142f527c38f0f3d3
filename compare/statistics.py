"""Statistics for comparing training runs: few seeds, several tasks, the same seeds in every arm.

Layout of the data: `scores` is a list with one float vector per task ("stratum"), one entry per seed. Two arms are
compared pair by pair: entry i of task m in one arm and in the other come from the same seed. Nothing is normalised
here; scores of tasks that are pooled should share a scale.

Which interval is used where, and why (coverage of nominal 95 % intervals by simulation, docs/compare/report.md):
    one arm, IQM         stratified bootstrap over seeds, percentiles at Student's tails; with up to 5 seeds joined with
                         Student's interval on the bootstrap's standard error. Percentiles never leave the range of the
                         data, which holds the truth for 75 % of all triples and 94 % of all quintuples at best.
    paired difference    Student's t on per-seed differences: 94-96 % from 3 seeds on for bell-shaped differences, where
                         percentile bootstraps cover 75 % (3 seeds) to 90 % (10). Strong skew costs it some percent.
    probability of       t interval of the Mann-Whitney estimate on the logit scale, with a floor under the spread; it
    improvement          covers at least 95 %, and is wide with few seeds even when one arm always wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

FEW = 5  # seeds, up to which percentiles of a bootstrap are not enough
Scores = Sequence[ArrayLike]  # one vector of per-seed scores for each task


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval; low = high = NaN where the seeds cannot give one."""

    value: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Difference(Estimate):
    """Mean paired difference, `arm - reference`. `p` is two-sided; `spread` the standard deviation of one pair."""

    p: float
    spread: float
    degrees: float


def iqm(scores: Scores) -> float:
    """Interquartile mean: mean of all runs of all tasks without the lowest and highest quarter (floor(n/4) each).

    Up to three runs nothing is cut. Source: Agarwal et al. 2021, arXiv 2108.13264, section 4.3.
    """
    return float(distributions.trim_mean(np.concatenate(_tasks(scores)), 0.25))


def iqm_interval(scores: Scores, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Estimate:
    """IQM with a stratified bootstrap interval: seeds are resampled within each task.

    The percentiles are taken at the normal tail areas of Student's quantile (degrees: runs minus tasks), which undoes
    most of the bootstrap's narrowness for few seeds (Hesterberg 2015, arXiv 1411.5279, section 5.3). Up to five seeds
    need more than the range of the data: there the interval also spans value -+ t * standard error, the bootstrap's
    times sqrt(n / (n - 1)); up to three seeds nothing is cut, and this is Student's interval of the mean. Deterministic.
    """
    tasks = _tasks(scores)
    runs = min(len(task) for task in tasks)
    value = iqm(tasks)
    if runs < 2:
        return Estimate(value, np.nan, np.nan, runs)
    samples = distributions.trim_mean(stratified_resamples(tasks, resamples, seed), 0.25, axis=1)
    degrees = sum(len(task) - 1 for task in tasks)
    tail = float(distributions.norm.cdf(distributions.t.ppf((1 - level) / 2, degrees)))
    low, high = np.quantile(samples, [tail, 1 - tail])
    if runs <= FEW:
        error = float(samples.std()) * np.sqrt(runs / (runs - 1))
        half = float(distributions.t.ppf(0.5 + level / 2, degrees)) * error
        low, high = min(low, value - half), max(high, value + half)
    return Estimate(value, float(low), float(high), runs)


def stratified_resamples(scores: Scores, resamples: int, seed: int) -> NDArray[np.float64]:
    """(resamples, runs of all tasks): each row draws, with replacement and within each task, as many runs as it has."""
    generator = np.random.default_rng(seed)
    columns = [task[generator.integers(0, len(task), (resamples, len(task)))] for task in _tasks(scores)]
    return np.concatenate(columns, axis=1)


def paired_difference(arm: Scores, reference: Scores, level: float = 0.95) -> Difference:
    """Mean over tasks of the mean paired difference, with Student's t interval and p-value.

    With several tasks the variances of the task means add up (stratified by task) and the degrees of freedom are
    Welch-Satterthwaite's; with one task this is the textbook paired t-test. If every pair of a task differs by the same
    amount there is no spread to learn from: p comes from the sign-flip test and the interval is a point.

    Raises:
        ValueError: the arms hold different tasks or seeds.
    """
    pairs = _pairs(arm, reference)
    runs = min(len(task) for task in pairs)
    value = float(np.mean([task.mean() for task in pairs]))
    if runs < 2:
        return Difference(value, np.nan, np.nan, runs, np.nan, np.nan, np.nan)
    variances = np.array([task.var(ddof=1) / len(task) for task in pairs])
    counts = np.array([len(task) for task in pairs])
    error = float(np.sqrt(variances.sum())) / len(pairs)
    spread = float(np.sqrt(np.mean([task.var(ddof=1) for task in pairs])))
    if error <= 1e-12 * max(1.0, abs(value)):
        return Difference(
            value, value, value, runs, sign_flip_p(arm, reference), spread, float(counts.sum() - len(counts))
        )
    degrees = float(variances.sum() ** 2 / np.sum(variances**2 / (counts - 1)))
    half = float(distributions.t.ppf(0.5 + level / 2, degrees)) * error
    p = float(2 * distributions.t.sf(abs(value) / error, degrees))
    return Difference(value, value - half, value + half, runs, p, spread, degrees)


def sign_flip_p(arm: Scores, reference: Scores, draws: int = 20000, seed: int = 0) -> float:
    """Two-sided p-value of the mean paired difference if the names of the two arms were exchangeable within each seed.

    Assumes no distribution: exact up to 14 pairs, where all sign patterns are counted; beyond that `draws` of them,
    the observed one included. It cannot fall below 2^(1-pairs): five pairs can never give p < 0.05.
    """
    pairs = _pairs(arm, reference)
    scaled = np.concatenate([task / (len(task) * len(pairs)) for task in pairs])
    observed = abs(scaled.sum())
    if len(scaled) <= 14:
        signs = _sign_patterns(len(scaled))
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(scaled)))
        signs[0] = 1.0
    return float(np.mean(np.abs(signs @ scaled) >= observed - 1e-12 * max(1.0, observed)))


def probability_of_improvement(arm: Scores, reference: Scores, level: float = 0.95) -> Estimate:
    """P(a run of `arm` beats a run of `reference`), ties counting half, averaged over tasks.

    The value is the Mann-Whitney U / (n n), Agarwal et al. 2021, section 4.3. The interval uses the per-seed placements
    (DeLong et al. 1988), so the pairing of seeds enters the variance, a t quantile on the logit scale, and half a
    pseudo-run on either side, so that an arm that wins every comparison does not get an interval of width 0.

    Raises:
        ValueError: the arms hold different tasks or seeds.
    """
    _pairs(arm, reference)
    tasks = list(zip(_tasks(arm), _tasks(reference), strict=True))
    wins = [np.sign(a[:, None] - b[None, :]) / 2 + 0.5 for a, b in tasks]
    value = float(np.mean([win.mean() for win in wins]))
    runs = min(len(win) for win in wins)
    if runs < 2:
        return Estimate(value, np.nan, np.nan, runs)
    total = sum(len(win) for win in wins)
    variance = sum((win.mean(1) + win.mean(0)).var(ddof=1) / len(win) for win in wins) / len(wins) ** 2
    shrunk = (value * total + 0.5) / (total + 1)
    variance = max(float(variance), shrunk * (1 - shrunk) / (3 * total))
    half = float(distributions.t.ppf(0.5 + level / 2, total - len(wins))) * np.sqrt(variance) / (shrunk * (1 - shrunk))
    centre = np.log(shrunk / (1 - shrunk))
    low, high = 1 / (1 + np.exp(-(centre - half))), 1 / (1 + np.exp(-(centre + half)))
    return Estimate(value, float(min(low, value)), float(max(high, value)), runs)


def mean_interval(scores: Scores, level: float = 0.95) -> Estimate:
    """Mean over tasks of task means, with Student's t interval."""
    difference = paired_difference(scores, [np.zeros(len(task)) for task in _tasks(scores)], level)
    return Estimate(difference.value, difference.low, difference.high, difference.seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; a NaN (no test made) stays NaN and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i])
    adjusted, running = [float("nan")] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def smallest_significant(spread: float, seeds: int, level: float = 0.95, comparisons: int = 1) -> float:
    """The mean paired difference at which the t-test of `seeds` pairs just declares a difference; inf below 2 seeds.

    `comparisons`: number of arms tested together, each at (1-level)/comparisons (the strictest step of Holm).
    """
    if seeds < 2:
        return float("inf")
    return float(distributions.t.ppf(1 - (1 - level) / (2 * comparisons), seeds - 1) * spread / np.sqrt(seeds))


def power(difference: float, spread: float, seeds: int, level: float = 0.95, comparisons: int = 1) -> float:
    """Chance that the paired t-test declares a true mean difference, for normal differences (noncentral t)."""
    if seeds < 2:
        return 0.0
    if spread == 0:
        return float(difference != 0)
    quantile = distributions.t.ppf(1 - (1 - level) / (2 * comparisons), seeds - 1)
    centre = abs(difference) / spread * np.sqrt(seeds)
    if centre > 37:  # beyond the range of the noncentral t; certain for all purposes
        return 1.0
    upper = distributions.nct.sf(quantile, seeds - 1, centre)
    lower = distributions.nct.cdf(-quantile, seeds - 1, centre)
    return float(np.nan_to_num(upper) + np.nan_to_num(lower))


def seeds_needed(
    difference: float, spread: float, target: float = 0.8, level: float = 0.95, comparisons: int = 1
) -> int:
    """Smallest number of seeds (2..1000) with which `difference` is declared with probability `target`; 1001: more."""
    low, high = 2, 1001
    while low < high:
        middle = (low + high) // 2
        if power(difference, spread, middle, level, comparisons) >= target:
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=4)
def _sign_patterns(count: int) -> NDArray[np.float64]:
    return np.array(list(product((-1.0, 1.0), repeat=count)))


def _tasks(scores: Scores) -> list[NDArray[np.float64]]:
    tasks = [np.asarray(task, dtype=np.float64) for task in scores]
    if not tasks or any(task.ndim != 1 or len(task) == 0 or not np.isfinite(task).all() for task in tasks):
        raise ValueError("Scores must be a list with one non-empty vector of finite numbers per task.")
    return tasks


def _pairs(arm: Scores, reference: Scores) -> list[NDArray[np.float64]]:
    ours, theirs = _tasks(arm), _tasks(reference)
    if [len(task) for task in ours] != [len(task) for task in theirs]:
        raise ValueError("Paired arms need the same tasks and the same seeds; keep only those both arms have.")
    return [a - b for a, b in zip(ours, theirs, strict=True)]
