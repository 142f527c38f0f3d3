"""The oracle of `doors`: each letter is credited with what it alone earned, less what the group earned at that position.

    python train_grpo.py --config-dir benchmarks/doors/oracle experiment=doors credit=own

Only a task that says which token earned what, and whose decisions are independent, allows it.
"""

from credit import declares
from credit.reduce import group_index, sum_by_group


@declares(unbiased=False, weight_class="none", row_constant=False, source="exact only where decisions are independent")
def own(span_rewards_BT, rewards_B, group_B, mask_BT):
    """A[b,t] = r[b,t] - mean of r[j,t] over the other rows of the group; unscorable rows and groups of one get 0."""
    scorable_B1 = ~rewards_B.isnan()[:, None]
    earned_BT = span_rewards_BT * (mask_BT & scorable_B1)
    index_B, groups = group_index(group_B)
    others_B1 = sum_by_group(scorable_B1.to(earned_BT.dtype), index_B, groups) - 1
    mean_BT = (sum_by_group(earned_BT, index_B, groups) - earned_BT) / others_B1.clamp(min=1)
    return (earned_BT - mean_BT) * (mask_BT & scorable_B1 & (others_B1 > 0))
