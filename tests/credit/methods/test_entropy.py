"""Credit by entropy: twins by loops, and the threshold that is the batch's."""

from __future__ import annotations

import math
import random
import statistics

import pytest
import torch

from credit.methods.entropy import grpo_s, gtpo, top_entropy
from credit.weight import token_mean

EPS, BONUS, FLOOR = 1e-4, 0.1, 0.01


def batch(seed: int):
    rng, rows, width = random.Random(seed), 12, 5
    mask_BT = torch.zeros(rows, width, dtype=torch.bool)
    for b in range(rows):
        mask_BT[b, : rng.randint(1, width)] = True
    mask_BT[3, 1] = False
    rewards_B = torch.tensor([float(rng.random() < 0.5) for _ in range(rows)], dtype=torch.float64)
    rewards_B[1] = torch.nan
    entropies_BT = torch.tensor([[rng.random() * 2 for _ in range(width)] for _ in range(rows)], dtype=torch.float64)
    return rewards_B, torch.tensor([4, 9] * 6), mask_BT, entropies_BT


def standardised(values: dict) -> dict:
    """(value - mean) / (std + eps) over whatever is there."""
    if len(values) < 2:
        return dict.fromkeys(values, 0.0)
    mean, std = statistics.mean(values.values()), statistics.stdev(values.values())
    return {key: (value - mean) / (std + EPS) if std > 1e-6 else 0.0 for key, value in values.items()}


def by_loops(rewards_B, group_B, mask_BT, entropies_BT) -> torch.Tensor:
    """The equations as they are written, a1 = 1 included."""
    credit, (rows, width) = torch.zeros(entropies_BT.shape, dtype=torch.float64), mask_BT.shape
    for group in set(group_B.tolist()):
        for won in (True, False):
            there = [
                b
                for b in range(rows)
                if group_B[b] == group and not rewards_B[b].isnan() and (rewards_B[b] >= 0.5) == won
            ]
            shaped = {}
            for b in there:
                for t in (t for t in range(width) if mask_BT[b, t]):
                    writing = [k for k in there if mask_BT[k, t]]
                    power = 1 if won else -1
                    worth = {k: max(float(entropies_BT[k, t]), FLOOR) ** power for k in writing}
                    value = 1 + BONUS * len(writing) * worth[b] / sum(worth.values())
                    shaped[b, t] = value if won else -value
            for (b, t), value in standardised(shaped).items():
                credit[b, t] = value
    return credit


@pytest.mark.parametrize("seed", range(5))
def test_gtpo_is_what_the_equations_say(seed):
    rewards_B, group_B, mask_BT, entropies_BT = batch(seed)
    made = gtpo(rewards_B, group_B, mask_BT, entropies_BT)
    assert (made - by_loops(rewards_B, group_B, mask_BT, entropies_BT)).abs().max() < 1e-9
    assert made.abs().max() > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_grpo_s_is_gtpo_of_mean_entropies(seed):
    rewards_B, group_B, mask_BT, entropies_BT = batch(seed)
    means = [[sum(row[own].tolist()) / int(own.sum())] for row, own in zip(entropies_BT, mask_BT, strict=True)]
    mean_B1 = torch.tensor(means, dtype=torch.float64)
    expected_B = by_loops(rewards_B, group_B, torch.ones(12, 1, dtype=torch.bool), mean_B1)[:, 0]
    made_B = grpo_s(rewards_B, group_B, mask_BT, mask_BT.sum(1), entropies_BT)
    assert (made_B - expected_B).abs().max() < 1e-9 and made_B.abs().max() > 0.5


def test_two_successes_that_are_the_same_leave_nothing_to_compare():
    rewards_B, entropies_BT = torch.ones(2), torch.tensor([[0.7, 1.3], [0.7, 1.3 + 1e-7]])
    assert (gtpo(rewards_B, torch.zeros(2).long(), torch.ones(2, 2).bool(), entropies_BT) == 0).all()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_the_threshold_is_that_of_the_whole_batch(share):
    _, _, mask_BT, entropies_BT = batch(0)
    weights_BT = top_entropy(mask_BT, mask_BT.sum(1), entropies_BT, share)
    ranked = sorted(entropies_BT[mask_BT].tolist(), reverse=True)
    kept = ranked[: math.ceil(share * len(ranked))]
    expected_BT = torch.tensor([[value in kept for value in row] for row in entropies_BT.tolist()]) & mask_BT
    assert torch.equal(weights_BT > 0, expected_BT)
    assert torch.equal(weights_BT[expected_BT], token_mean(mask_BT, mask_BT.sum(1))[expected_BT])


def test_equal_prefixes_are_kept_together_whatever_rounding_says():
    entropies_BT = torch.tensor([[1.0, 0.2], [1.0 + 1e-7, 0.1], [1.0 - 1e-7, 0.3]])
    weights_BT = top_entropy(torch.ones(3, 2).bool(), torch.tensor([2, 2, 2]), entropies_BT, 1 / 6)
    assert (weights_BT[:, 0] > 0).all() and (weights_BT[:, 1] == 0).all()


def test_a_batch_without_a_token_weighs_nothing_and_a_share_of_nothing_is_refused():
    empty = torch.zeros(2, 3).bool()
    assert (top_entropy(empty, empty.sum(1), torch.ones(2, 3)) == 0).all()
    with pytest.raises(ValueError, match="share=0"):
        top_entropy(~empty, (~empty).sum(1), torch.ones(2, 3), 0.0)
