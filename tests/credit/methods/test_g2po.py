"""Credit by a graph of states: its twin by loops."""

from __future__ import annotations

import math
import random

import pytest
import torch

from credit.methods.g2po import G2PO
from credit.turns.index import runs_of, turn_index


def batch(seed: int):
    """Three groups; conversations of none to four turns that meet in few states; one row unscorable."""
    rng = random.Random(seed)
    patterns = [rng.choice(["11011011", "1101", "111", "0110110111", "1011", "110101011"]) for _ in range(10)]
    mask_BT = torch.tensor([[t < len(row) and row[t] == "1" for t in range(11)] for row in patterns])
    mask_BT[4] = False
    state_BT = torch.full(mask_BT.shape, -1)
    for b, mask in enumerate(mask_BT.tolist()):
        for run in runs_of(mask):
            state_BT[b, run] = rng.randint(0, 2)
    rewards_B = torch.tensor([rng.choice([0.0, 1.0, 0.3]) for _ in range(10)], dtype=torch.float64)
    rewards_B[7] = torch.nan
    return turn_index(mask_BT), state_BT, mask_BT, rewards_B, torch.tensor([3, 3, 3, 3, 3, 8, 8, 8, 8, 1])


def centred(values: list[float], own: float, scale: bool) -> float:
    mean = sum(values) / len(values)
    if max(values) == min(values):
        return 0.0
    std = math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))
    return (own - mean) / (std + 1e-6) if scale else own - mean


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [False, True])
def test_it_is_its_twin_by_loops(seed, scale):
    turn_BT, state_BT, mask_BT, rewards_B, group_B = batch(seed)
    found_BT = G2PO(omega=0.7, gamma=0.8, scale=scale)(turn_BT, state_BT, mask_BT, rewards_B, group_B)
    turns = [runs_of(mask) for mask in mask_BT.tolist()]
    met = 0
    for b, runs in enumerate(turns):
        if rewards_B[b].isnan():
            assert not found_BT[b].any()
            continue
        group = [j for j in range(10) if group_B[j] == group_B[b] and not rewards_B[j].isnan()]
        places = [(j, k) for j in group for k in range(len(turns[j]))]

        def state(j, k):
            return int(state_BT[j, turns[j][k][0]])

        def value(j, k, places=places):
            alike = [(i, m) for i, m in places if state(i, m) == state(j, k)]
            return sum(0.8 ** (len(turns[i]) - m) * float(rewards_B[i]) for i, m in alike) / len(alike)

        def leads_to(j, k):
            return value(j, k + 1) if k + 1 < len(turns[j]) else float(rewards_B[j])

        total = sum(len(turns[j]) for j in group)
        episode = float(rewards_B[b]) - sum(len(turns[j]) * float(rewards_B[j]) for j in group) / max(total, 1)
        for k, run in enumerate(runs):
            alike = [leads_to(j, m) for j, m in places if state(j, m) == state(b, k)]
            met += len(alike) > 1
            step = centred(alike, leads_to(b, k), scale)
            gains = [leads_to(j, m) - value(j, m) for j, m in places]
            step += centred(gains, leads_to(b, k) - value(b, k), scale)
            for t in run:
                assert float(found_BT[b, t]) == pytest.approx(
                    episode * (len(set(_rewards(group, rewards_B))) > 1) + 0.7 * step, abs=1e-9
                )
    assert met > 5 and not found_BT[~mask_BT].any()


def _rewards(group, rewards_B):
    return [float(rewards_B[j]) for j in group]


@pytest.mark.parametrize("setting", [{"gamma": 1.5}, {"omega": -1.0}, {"eps": -1.0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="spread"):
        G2PO(**setting)
