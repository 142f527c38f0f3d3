"""Numbers with intervals, from one value per prompt.

The completions of a prompt are not independent of each other, the prompts are: so every interval is over prompts, each
with the mean of its completions (clustered standard errors; Miller 2024, "Adding Error Bars to Evals", arXiv
2411.00640, sections 2.2 and 4). Two models that answered the same prompts are compared by the differences per prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb, isfinite
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean over prompts. low, high: None where the prompts give none (a single one, or all alike)."""

    value: float | None
    low: float | None
    high: float | None
    prompts: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_over_prompts(values: Sequence[float], level: float = 0.95, is_share: bool = False) -> Interval:
    """Mean with Student's interval.

    Args:
        values: one for each prompt; none gives None.
        is_share: each is a share, so the interval stays within 0 and 1; and where all of them are 0, or all are 1, it is
            Clopper and Pearson's, as if each prompt were one draw.
    """
    count = len(values)
    if not count:
        return Interval(None, None, None, 0)
    value = float(np.mean(values))
    if count < 2 or not isfinite(value):
        return Interval(value, None, None, count)
    error = float(np.std(values, ddof=1)) / count**0.5
    if error <= 1e-12 * max(1.0, abs(value)):
        if is_share and value in (0.0, 1.0):
            far = ((1 - level) / 2) ** (1 / count)
            return Interval(value, far if value else 0.0, 1.0 if value else 1 - far, count)
        return Interval(value, None, None, count)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    low, high = value - half, value + half
    return Interval(value, max(0.0, low), min(1.0, high), count) if is_share else Interval(value, low, high, count)


def paired(
    ours: Mapping[Any, float], theirs: Mapping[Any, float], level: float = 0.95, are_shares: bool = False
) -> Interval:
    """Mean of ours minus theirs over the prompts that both have, with Student's interval of the differences; of shares it
    stays within -1 and 1."""
    found = mean_over_prompts([ours[prompt] - theirs[prompt] for prompt in ours if prompt in theirs], level)
    if not are_shares or found.low is None or found.high is None:
        return found
    return replace(found, low=max(-1.0, found.low), high=min(1.0, found.high))


def pass_at(k: int, n: int, passed: int) -> float:
    """Chance that of k completions, drawn without replacement from n of which `passed` pass, one passes: the unbiased estimator
    1 - C(n - passed, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1).

    Raises:
        ValueError: k is not from 1 to n, or more pass than there are.
    """
    if not 1 <= k <= n or not 0 <= passed <= n:
        raise ValueError(f"pass@{k} of {n} completions, {passed} of which pass, makes no sense: 1 <= k <= n is needed.")
    return 1 - comb(n - passed, k) / comb(n, k)
