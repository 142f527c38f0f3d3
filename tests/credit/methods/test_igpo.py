"""Information gain: a twin by loops, and the odd rows."""

from __future__ import annotations

import math
import random

import pytest
import torch

from credit.methods.igpo import InformationGain
from credit.turns.index import turn_index


def batch(seed: int) -> dict:
    """Three groups, of 4, 3 and 2 rows; one to four pieces a row; one row without an answer, one unscorable, one without a learning
    token."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    patterns = ["11011011", "1101", "11101101101", "11", "0110", "1011011", "11110", "1101011", "110110"]
    width = max(map(len, patterns)) + 1
    mask_BT = torch.tensor([[t < len(row) and row[t] == "1" for t in range(width)] for row in patterns])
    mask_BT[6] = False
    logps_BC = -3 * torch.rand(len(patterns), 4, generator=generator, dtype=torch.float64)
    pieces_B = turn_index(mask_BT).amax(dim=1) + 1
    logps_BC[torch.arange(4) >= pieces_B[:, None]] = torch.nan
    logps_BC[5] = torch.nan
    lengths_B = torch.tensor([rng.randint(1, 3) for _ in patterns])
    lengths_B[5] = 0
    rewards_B = torch.tensor([rng.random() for _ in patterns], dtype=torch.float64)
    rewards_B[1] = torch.nan
    return {
        "answer_logps_BC": logps_BC,
        "answer_lengths_B": lengths_B,
        "piece_BT": turn_index(mask_BT),
        "mask_BT": mask_BT,
        "rewards_B": rewards_B,
        "group_B": torch.tensor([7, 7, 7, 7, 2, 2, 2, 5, 5]),
    }


def by_loops(given: dict, gain: str, norm: str, scale: bool, gamma: float) -> list[list[float]]:
    """(B, pieces) as the paper has it, a number at a time."""
    rows, earned = range(len(given["rewards_B"])), []
    for b in rows:
        count, reward = int(given["piece_BT"][b].max()) + 1, float(given["rewards_B"][b])
        mean = [float(x) / max(int(given["answer_lengths_B"][b]), 1) for x in given["answer_logps_BC"][b]]
        known = [math.exp(x) for x in mean] if gain == "prob" else mean
        gains = [known[k + 1] - known[k] for k in range(count - 1)]
        earned.append([("gain", g) for g in gains] + [("outcome", reward)])
    standard: list[list[float]] = []
    for b in rows:
        if math.isnan(earned[b][-1][1]):
            standard.append([0.0] * len(earned[b]))
            continue
        mates = [j for j in rows if given["group_B"][j] == given["group_B"][b]]
        mates = [j for j in mates if not math.isnan(earned[j][-1][1])]
        row = []
        for kind, value in earned[b]:
            pool = [x for j in mates for one, x in earned[j] if norm == "joint" or one == kind]
            pool = [x for x in pool if not math.isnan(x)]
            if math.isnan(value) or len(set(pool)) < 2:
                row.append(0.0)
                continue
            mean = sum(pool) / len(pool)
            std = math.sqrt(sum((x - mean) ** 2 for x in pool) / len(pool) + 1e-8) + 1e-6
            row.append((value - mean) / (std if scale else 1.0))
        standard.append(row)
    return [[sum(gamma ** (i - k) * row[i] for i in range(k, len(row))) for k in range(len(row))] for row in standard]


@pytest.mark.parametrize("gain", ["prob", "log_prob"])
@pytest.mark.parametrize("norm", ["joint", "separate"])
@pytest.mark.parametrize(("scale", "gamma"), [(True, 1.0), (False, 0.6)])
def test_it_is_its_twin_by_loops(gain, norm, scale, gamma):
    given = batch(3)
    found_BT = InformationGain(gain=gain, norm=norm, scale=scale, gamma=gamma)(**given)
    expected, seen = by_loops(given, gain, norm, scale, gamma), set()
    for b, t in given["mask_BT"].nonzero().tolist():
        piece = int(given["piece_BT"][b, t])
        assert float(found_BT[b, t]) == pytest.approx(expected[b][piece], abs=1e-12)
        seen.add(round(expected[b][piece], 9))
    assert len(seen) > 10 and not found_BT[~given["mask_BT"]].any() and not found_BT[1].any()


def test_one_piece_is_the_group_z_score():
    """Of the population, as the code has it."""
    mask_BT, rewards_B = torch.ones(4, 3, dtype=torch.bool), torch.tensor([1.0, 0.0, 0.0, 0.5], dtype=torch.float64)
    found_BT = InformationGain()(
        torch.zeros(4, 1), torch.ones(4), turn_index(mask_BT), mask_BT, rewards_B, torch.zeros(4, dtype=torch.long)
    )
    z_B = (rewards_B - rewards_B.mean()) / (rewards_B.std(correction=0) + 1e-6)
    assert torch.allclose(found_BT, z_B[:, None].expand(4, 3), rtol=1e-6)


def test_gains_that_agree_up_to_rounding_are_no_signal():
    given = batch(3)
    noise_BC = 1e-7 * torch.randn(given["answer_logps_BC"].shape, dtype=torch.float64)
    given["answer_logps_BC"] = torch.where(given["answer_logps_BC"].isnan(), torch.nan, -1 + noise_BC)
    gains_BT = InformationGain(norm="separate")(**given) - InformationGain(norm="separate")(
        **{**given, "answer_logps_BC": torch.full_like(noise_BC, torch.nan)}
    )
    assert 0 < gains_BT.abs().max() < 0.02


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"gain": "logs"}, "prob, log_prob"),
        ({"norm": "both"}, "joint, separate"),
        ({"gamma": 2.0}, r"\[0, 1\]"),
        ({"eps": -1.0}, ">= 0"),
    ],
)
def test_settings_that_there_are_not_are_refused(setting, said):
    with pytest.raises(ValueError, match=said):
        InformationGain(**setting)
