"""Where among the turns an update acts, and what they earned: counted by loops, however the batch looks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from credit.turns.index import runs_of, turn_index
from credit.turns.measures import STRETCHES, measure_turns, stretch_name


def batch_of(seed: int, rows: int = 5, width: int = 60):
    generator = torch.Generator().manual_seed(seed)
    mask_BT = torch.rand(rows, width, generator=generator) < 0.55
    push_BT, earned_BT = torch.rand(2, rows, width, generator=generator, dtype=torch.float64)
    earned_BT *= torch.rand(rows, width, generator=generator) < 0.2
    rewards_B = torch.where(torch.rand(rows, generator=generator) < 0.3, torch.nan, 1.0)
    return push_BT.masked_fill(~mask_BT, math.nan), earned_BT.masked_fill(~mask_BT, math.nan), mask_BT, rewards_B


@given(st.integers(0, 500), st.integers(1, 60))
def test_they_are_what_loops_over_turns_count(seed, width):
    push_BT, earned_BT, mask_BT, rewards_B = batch_of(seed, width=width)
    pushes, earnings, idle, counts = {}, {}, 0.0, []
    for b, mask_T in enumerate(mask_BT.tolist()):
        counts.append(len(runs_of(mask_T)))
        for k, run in enumerate(runs_of(mask_T)):
            push, earned = (float(values_BT[b, run].sum()) for values_BT in (push_BT, earned_BT))
            pushes[k] = pushes.get(k, 0.0) + push
            idle += push * (earned == 0)
            if not rewards_B[b].isnan():
                earnings[k] = earnings.get(k, 0.0) + earned
    found = measure_turns(push_BT, turn_index(mask_BT), rewards_B, earned_BT)
    total, scored = sum(pushes.values()), int((~rewards_B.isnan()).sum())
    for first, last in STRETCHES:
        inside = [k for k in pushes if first - 1 <= k < (last or 1000)]
        name = stretch_name(first, last)
        if not inside:
            assert first == 1 or (f"turn_{name}" not in found and f"earned_{name}" not in found)
        elif total:
            assert found[f"turn_{name}"] == pytest.approx(sum(pushes[k] for k in inside) / total)
        if inside and scored:
            assert found[f"earned_{name}"] == pytest.approx(sum(earnings.get(k, 0.0) for k in inside) / scored)
    assert found["turns"] == pytest.approx(sum(counts) / len(counts))
    assert math.isnan(found["idle_turns"]) if not total else found["idle_turns"] == pytest.approx(idle / total)


def test_shares_sum_to_one_and_what_was_earned_to_the_mean_reward():
    push_BT, earned_BT, mask_BT, _ = batch_of(3)
    assert (turn_index(mask_BT).amax(dim=1) > 8).all()
    rewards_B = earned_BT.nansum(dim=1)
    found = measure_turns(push_BT, turn_index(mask_BT), rewards_B, earned_BT)
    parts = {kind: sum(v for name, v in found.items() if name.startswith(kind)) for kind in ("turn_", "earned_")}
    assert parts["turn_"] == pytest.approx(1.0) and parts["earned_"] == pytest.approx(float(rewards_B.mean()))


def test_what_rounding_leaves_on_the_last_turn_is_nothing_earned():
    """A third in float32, less the three ninths that were placed in float64: about 1e-9, as a run has it."""
    rest = float(torch.tensor(1 / 3)) - 3 * (1 / 9)
    assert 0 < abs(rest) < 1e-7
    mask_BT = torch.tensor([[True, False, True, False, True, False, True]])
    earned_BT = torch.tensor([[1 / 9, 0.0, 1 / 9, 0.0, 1 / 9, 0.0, rest]])
    turn_BT = turn_index(mask_BT)
    assert measure_turns(mask_BT.double(), turn_BT, earned_BT.sum(dim=1), earned_BT)["idle_turns"] == 0.25
    nothing = measure_turns(mask_BT.double(), turn_BT, torch.zeros(1), torch.zeros_like(earned_BT))
    assert nothing["idle_turns"] == 1.0


def test_a_batch_without_conversations_has_nothing_to_say_but_one_that_earns_by_turn_has():
    mask_BT = torch.ones(2, 3, dtype=torch.bool)
    assert measure_turns(torch.ones(2, 3), turn_index(mask_BT), torch.ones(2), None) == {}
    earned_BT = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    found = measure_turns(torch.ones(2, 3), turn_index(mask_BT), torch.tensor([1.0, 3.0]), earned_BT)
    assert found == {"turns": 1.0, "turn_01": 1.0, "idle_turns": 0.0, "earned_01": 2.0}


def test_names_of_stretches_sort_as_they_follow_and_leave_no_turn_out():
    names = [stretch_name(*ends) for ends in STRETCHES]
    assert names == sorted(names) == ["01", "02", "03_04", "05_08", "09_16", "17_up"]
    covered = [turn for first, last in STRETCHES for turn in range(first, (last or 99) + 1)]
    assert covered == list(range(1, 100))
