"""Log-ratios to the start as rewards by token: twins by loops."""

from __future__ import annotations

import random

import pytest
import torch

from credit.methods.implicit import masked_step, process_rewards


def batch(seed: int) -> dict:
    """Ragged rows of three groups, tool text in two; one row unscorable, one without a learning token, one with nobody beside it."""
    rng, rows, width = random.Random(seed), 11, 6
    mask_BT = torch.zeros(rows, width, dtype=torch.bool)
    for b in range(rows):
        mask_BT[b, : rng.randint(1, width)] = True
    mask_BT[2] = False
    mask_BT[0], mask_BT[0, 2] = True, False
    rewards_B = torch.tensor([rng.random() for _ in range(rows)], dtype=torch.float64)
    rewards_B[6] = rewards_B[8] = rewards_B[9] = torch.nan
    generator = torch.Generator().manual_seed(seed)
    logps_BT, ref_BT = -torch.rand(2, rows, width, generator=generator, dtype=torch.float64)
    return {
        "advantages_B": torch.rand(rows, generator=generator, dtype=torch.float64),
        "rewards_B": rewards_B,
        "group_B": torch.tensor([7, 7, 7, 7, 2, 2, 2, 2, 5, 5, 5]),
        "mask_BT": mask_BT,
        "scoring_logps_BT": logps_BT,
        "ref_logps_BT": ref_BT,
    }


def by_reward_model(given: dict) -> dict:
    """The same numbers as the reward model's."""
    rest = {name: value for name, value in given.items() if name != "scoring_logps_BT"}
    return {**rest, "reward_model_logps_BT": given["scoring_logps_BT"], "lengths_B": given["mask_BT"].sum(1)}


def rewards_of(given: dict, beta: float) -> list[list[float]]:
    rows, width = given["mask_BT"].shape
    ratio_BT = given["scoring_logps_BT"] - given["ref_logps_BT"]
    return [
        [beta * float(ratio_BT[b, t]) if given["mask_BT"][b, t] else 0.0 for t in range(width)] for b in range(rows)
    ]


def scorable(given: dict, b: int) -> bool:
    return not given["rewards_B"][b].isnan()


@pytest.mark.parametrize("seed", range(3))
def test_step_by_step_against_those_who_write_there(seed):
    given = batch(seed)
    found_BT, earned = masked_step(**given, beta=0.3), rewards_of(given, 0.3)
    compared = 0
    for b, t in given["mask_BT"].nonzero().tolist():
        if not scorable(given, b):
            continue
        there = [
            j
            for j in range(11)
            if given["group_B"][j] == given["group_B"][b] and scorable(given, j) and given["mask_BT"][j, t]
        ]
        step = sum(earned[b][: t + 1]) - sum(sum(earned[j][: t + 1]) for j in there) / len(there)
        expected = float(given["advantages_B"][b]) + (step if len(there) > 1 else 0.0)
        assert float(found_BT[b, t]) == pytest.approx(expected, abs=1e-12)
        compared += len(there) > 1
    assert compared > 5


@pytest.mark.parametrize("seed", range(3))
def test_what_is_still_to_come_less_the_others_mean(seed):
    given = batch(seed)
    lengths_B = given["mask_BT"].sum(1)
    found_BT = process_rewards(**by_reward_model(given), beta=0.3, share=0.5)
    earned = rewards_of(given, 0.3)
    for b, t in given["mask_BT"].nonzero().tolist():
        if not scorable(given, b):
            continue
        others = [j for j in range(11) if j != b and given["group_B"][j] == given["group_B"][b] and scorable(given, j)]
        means = [sum(earned[j]) / max(int(lengths_B[j]), 1) for j in others]
        later = [s for s in range(t, 6) if given["mask_BT"][b, s]]
        to_come = sum(earned[b][s] - sum(means) / len(means) for s in later) if others else 0.0
        assert float(found_BT[b, t]) == pytest.approx(float(given["advantages_B"][b]) + 0.5 * to_come, abs=1e-12)


def test_a_policy_that_has_not_moved_has_nothing_but_the_outcome():
    given = batch(0) | {"ref_logps_BT": batch(0)["scoring_logps_BT"]}
    alone_B1 = given["advantages_B"][:, None]
    assert torch.equal(masked_step(**given), alone_B1.expand(-1, 6))
    assert torch.equal(process_rewards(**by_reward_model(given)), alone_B1.expand(-1, 6))
