"""Numbers that say how good a gradient estimate is. g: the true gradient; m: the estimate's mean.

cosine          cos(m, g)
scale           <m, g> / |g|^2; harmless, the learning rate takes it up
relative_bias   |m / scale - g| / |g|, the tangent of the angle between m and g: what no learning rate removes (0 for
                an unbiased direction). At most WORST_BIAS, which also stands for an m that points backwards. Undefined where
                m = 0: nothing is learned there, in no direction
nsr             trace of the covariance / |m|^2; the number of batches to average until signal equals noise
length_push     <m, grad E[length]> / |m|: change of length per unit step; `true_length_push` is g's own
success_push    the same for the reward-weighted mean length: do rewarded texts get shorter? `true_success_push`
gain            E[R] after a step of fixed length along m, less before, over the same along g
drift           |m| / root of the trace of the covariance; where g = 0 this is all bias, in units of noise
pearson, spearman   of credit A[b,t] with the ideal A*[b,t], over learning tokens
key_share       share of |w A| on the tokens on which credit belongs

Shapes: M credits, one for each learning token of each batch, U distinct values among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lab.exact.quantities import Exact
from lab.measure.batches import Items
from lab.measure.moments import Moments

STEP = 0.1
ROUNDING = 1e-12
WORST_BIAS = 1000.0


def direction(mean_D: Tensor, variance: float, learner: Exact) -> dict[str, float]:
    """Every metric that needs only the mean and the variance of the estimate. NaN where undefined."""
    truth_D = learner.reward_gradient
    size, true_size = float(mean_D.norm()), float(truth_D.norm())
    drift = size / math.sqrt(variance) if variance > ROUNDING else (math.inf if size > ROUNDING else 0.0)
    names = ["nsr", "cosine", "scale", "relative_bias"]
    names += ["length_push", "true_length_push", "success_push", "true_success_push"]
    found = dict.fromkeys(names, math.nan) | {"drift": drift}
    if true_size <= ROUNDING:
        return found
    product = float(mean_D @ truth_D)
    scale = product / true_size**2
    pushes = {"length_push": learner.length_gradient, "success_push": learner.success_length_gradient}
    found |= {f"true_{name}": float(truth_D @ way_D) / true_size for name, way_D in pushes.items()}
    if size <= ROUNDING:
        return found | {"nsr": math.inf, "scale": 0.0}
    bias = float((mean_D / scale - truth_D).norm()) / true_size if scale > 0 else WORST_BIAS
    return (
        found
        | {name: float(mean_D @ way_D) / size for name, way_D in pushes.items()}
        | {
            "nsr": variance / size**2,
            "cosine": product / (size * true_size),
            "scale": scale,
            "relative_bias": min(bias, WORST_BIAS),
        }
    )


def nothing_learned(metrics: Mapping[str, float | None]) -> bool:
    """Whether there was something to learn (g is not 0) and the mean update is zero."""
    bias, true_push = (metrics.get(name) for name in ("relative_bias", "true_length_push"))
    return (bias is None or math.isnan(bias)) and true_push is not None and not math.isnan(true_push)


def step_gain(mean_D: Tensor, learner: Exact, step: float = STEP) -> dict[str, float]:
    """`gain`, and the change of E[R] and E[length] after a step of length `step` along the mean."""
    truth_D, size = learner.reward_gradient, float(mean_D.norm())
    if size <= ROUNDING:
        return dict.fromkeys(("gain", "reward_change", "length_change"), math.nan)
    tree = learner.tree
    lengths_N = tree.lengths_N.double()
    moved = learner.at(learner.theta + step * mean_D / size)
    reward_change = moved.mean(tree.rewards_N) - learner.mean(tree.rewards_N)
    gain = math.nan
    if float(truth_D.norm()) > ROUNDING:
        best = learner.at(learner.theta + step * truth_D / truth_D.norm())
        gain = reward_change / (best.mean(tree.rewards_N) - learner.mean(tree.rewards_N))
    length_change = moved.mean(lengths_N) - learner.mean(lengths_N)
    return {"gain": gain, "reward_change": reward_change, "length_change": length_change}


def alignment(found: Moments, items: Items) -> dict[str, float]:
    """How well credit A[b,t] follows the ideal A*[b,t], and where the update's weight lies."""
    return {
        "pearson": _pearson(found, items.ideal_IT, items.ideal_square_IT, found.credit_M),
        "spearman": _spearman(found, items),
        "key_share": float((found.push_IT * items.deciding_IT).sum() / found.push_IT.sum().clamp(min=1e-300)),
    }


def _pearson(found: Moments, other_IT: Tensor, other_square_IT: Tensor, credit_M: Tensor) -> float:
    """Correlation over tokens of credit with a quantity known by its mean and mean square in each item."""
    weight_M = found.prob_M
    other_M = other_IT[found.item_M, found.token_M]
    square_M = other_square_IT[found.item_M, found.token_M]
    mean, other_mean = float(weight_M @ credit_M), float(weight_M @ other_M)
    variance = float(weight_M @ credit_M.square()) - mean**2
    other_variance = float(weight_M @ square_M) - other_mean**2
    if min(variance, other_variance) <= ROUNDING:
        return math.nan
    return (float(weight_M @ (credit_M * other_M)) - mean * other_mean) / math.sqrt(variance * other_variance)


def _spearman(found: Moments, items: Items) -> float:
    """Pearson of the mid-ranks, both under the tokens' own probabilities."""
    count, width = items.ideal_IT.shape
    token_IT = torch.zeros(count, width, dtype=torch.float64)
    token_IT.view(-1).index_add_(0, found.item_M * width + found.token_M, found.prob_M)
    rank_NT = weighted_ranks(items.ideal_NT.flatten(), (token_IT[items.item_N] * items.share_N[:, None]).flatten())
    rank_NT = rank_NT.view_as(items.ideal_NT) * items.share_N[:, None]
    zeros = torch.zeros(count, width, dtype=torch.float64)
    mean_IT = zeros.index_add(0, items.item_N, rank_NT)
    square_IT = zeros.index_add(0, items.item_N, rank_NT.square() / items.share_N[:, None].clamp(min=1e-300))
    return _pearson(found, mean_IT, square_IT, weighted_ranks(found.credit_M, found.prob_M))


def weighted_ranks(values_M: Tensor, weights_M: Tensor) -> Tensor:
    """Mid-rank of each value: the weight below it plus half the weight of its equals. Values that differ by rounding
    are equal."""
    rounded_M = values_M.mul(1e9).round()
    _, level_M = torch.unique(rounded_M, return_inverse=True)
    weight_U = torch.zeros(int(level_M.max()) + 1, dtype=torch.float64).index_add_(0, level_M, weights_M)
    return (weight_U.cumsum(0) - weight_U / 2)[level_M]
