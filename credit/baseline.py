"""Baselines: rewards of whole completions -> one advantage per completion, A = R - baseline.

A member is called by the baseline b that it subtracts and returns what is left, A = R - b (`*_zscore` and `*_std` divide that
by a standard deviation), because what to divide by and what an odd row gets cannot be told from b alone. The same choice is
verl's `algorithm.adv_estimator` and TRL's `scale_rewards`.

Each runs at scoring time on the rewards of all ranks. Input: `rewards_B` (float, NaN = unscorable) and `group_B`
(int64 prompt ids, any order). Output: (B,), same dtype, 0 for unscorable rows. Odd cases: credit/reduce.py.
"""

from __future__ import annotations

from torch import Tensor

from credit.declare import declares
from credit.reduce import batch_centred, batch_std, group_centred, group_count, group_std, group_sum


@declares(unbiased=True, weight_class="none", row_constant=True, source="REINFORCE, Williams 1992")
def none(rewards_B: Tensor) -> Tensor:
    """A = R. Unbiased, highest variance; the place to start when the spread brings its own baseline."""
    return rewards_B.nan_to_num(nan=0.0)


@declares(unbiased=True, weight_class="none", row_constant=True, source="Dr.GRPO, arXiv 2503.20783, section 3.2")
def group_mean(rewards_B: Tensor, group_B: Tensor) -> Tensor:
    """A = R - mean of the group. The row's own reward is inside the mean, which only scales the expected gradient by
    (n-1)/n; equals TRL's `scale_rewards="none"`."""
    return group_centred(rewards_B, group_B)


@declares(unbiased=False, weight_class="group", row_constant=True, source="GRPO, arXiv 2402.03300, section 4.1.1")
def group_zscore(rewards_B: Tensor, group_B: Tensor, eps: float = 1e-4) -> Tensor:
    """A = (R - mean) / (std + eps) within the group, std with ddof=1; equals TRL's `scale_rewards="group"`.

    Dividing by the group's own std weighs prompts by about 1/sqrt(p(1-p)) for a success rate p: the direction of
    the gradient changes between prompts of different difficulty.

    Args:
        eps: added to the standard deviation.
    """
    return group_centred(rewards_B, group_B) / (group_std(rewards_B, group_B) + eps)


@declares(unbiased=True, weight_class="none", row_constant=True, source="RLOO, arXiv 2402.14740, equation 7")
def leave_one_out(rewards_B: Tensor, group_B: Tensor) -> Tensor:
    """A = R - mean of the *other* scorable rows of the group = n/(n-1) (R - mean). A group of one gets 0."""
    count_B = group_count(rewards_B, group_B)
    return group_centred(rewards_B, group_B) * count_B / (count_B - 1).clamp(min=1)


@declares(unbiased=False, weight_class="batch", row_constant=True, source="REINFORCE++, arXiv 2501.03262")
def batch_zscore(rewards_B: Tensor, eps: float = 1e-4) -> Tensor:
    """A = (R - mean) / (std + eps) over all scorable rows of the generation batch, whatever their prompt.

    Couples every row with the batch: the direction is off by O(1/B). For the group's mean with the batch's std (TRL's
    `scale_rewards="batch"`) see `group_mean_batch_std`.

    Args:
        eps: added to the standard deviation.
    """
    return batch_centred(rewards_B) / (batch_std(rewards_B) + eps)


@declares(unbiased=False, weight_class="batch", row_constant=True, source="Lite PPO, arXiv 2508.08221, section 4.1")
def group_mean_batch_std(rewards_B: Tensor, group_B: Tensor, eps: float = 1e-4) -> Tensor:
    """A = (R - mean of the group) / (std of the batch + eps); equals TRL's `scale_rewards="batch"`.

    Args:
        eps: added to the standard deviation.
    """
    return group_centred(rewards_B, group_B) / (batch_std(rewards_B) + eps)


@declares(unbiased=False, weight_class="future", row_constant=True, source="OPO, arXiv 2505.23585; verl's `opo`")
def length_weighted(rewards_B: Tensor, group_B: Tensor, lengths_B: Tensor) -> Tensor:
    """A = R - sum_j L_j R_j / sum_j L_j over the group, the row itself included.

    Least variance if the squared norm of a row's score grows with its length. The row's own length stands in its
    baseline, which bends the direction; see `length_weighted_loo`. A group without tokens gets R - mean.
    """
    # Centred first, so that a group of equal rewards gets exactly 0.
    centred_B = group_centred(rewards_B, group_B)
    scorable_B = rewards_B.isnan().logical_not()
    weights_B = (lengths_B * scorable_B).to(rewards_B.dtype)
    shift_B = group_sum(weights_B * centred_B, group_B) / group_sum(weights_B, group_B).clamp(min=1)
    return (centred_B - shift_B) * scorable_B


@declares(unbiased=True, weight_class="none", row_constant=True, source="OPO, arXiv 2505.23585, self left out")
def length_weighted_loo(rewards_B: Tensor, group_B: Tensor, lengths_B: Tensor) -> Tensor:
    """A = R - sum_{j != b} L_j R_j / sum_{j != b} L_j: the baseline knows nothing of its own row, so it is unbiased.
    A row whose companions have no tokens (or that has none) has nobody to compare with and gets 0."""
    centred_B = group_centred(rewards_B, group_B)
    scorable_B = rewards_B.isnan().logical_not()
    weights_B = (lengths_B * scorable_B).to(rewards_B.dtype)
    others_B = group_sum(weights_B, group_B) - weights_B
    rewards_of_others_B = group_sum(weights_B * centred_B, group_B) - weights_B * centred_B
    return (centred_B - rewards_of_others_B / others_B.clamp(min=1)) * (scorable_B & (others_B > 0))
