"""Credit by turn does what its formulas say: against plain loops, and by identities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.compose import named_strategy
from credit import baseline, weight
from credit.batch import Rollout
from credit.strategy import Strategy
from credit.turns.index import (
    earned_by_turn_end,
    spread_over_turns,
    sum_by_turn,
    turn_counts,
    turn_ends,
    turn_index,
    turn_starts,
)
from credit.turns.spreads import MTGRPO, GiGPO, TurnDiscount, Turns, smear
from lab.exact.quantities import exact
from lab.exact.worlds import world
from lab.measure.estimate import measure

WIDTH = 9


def conversations(seed: int, rows: int = 8):
    """Rows with turns of any length and number, tool text before, between and after them, and one without a turn."""
    generator = torch.Generator().manual_seed(seed)
    mask_BT = torch.rand(rows, WIDTH, generator=generator) < 0.6
    mask_BT[0] = False
    turn_BT = turn_index(mask_BT)
    earned_BT = torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64) * turn_ends(turn_BT)
    rewards_B = earned_BT.sum(dim=1)
    rewards_B[0], rewards_B[3] = 0.7, math.nan
    group_B = torch.tensor([4, 9, 4, 9, 4, 9, 4, 7])[:rows]
    state_BT = torch.randint(0, 3, (rows, WIDTH), generator=generator).gather(1, turn_BT.clamp(min=0))
    return mask_BT, turn_BT, earned_BT, rewards_B, group_B, state_BT.masked_fill(turn_BT < 0, -1)


def turns_of(mask_T) -> list[list[int]]:
    """Positions of each turn of a row, by a loop."""
    turns: list[list[int]] = []
    for t, learns in enumerate(mask_T.tolist()):
        if learns and (t == 0 or not mask_T[t - 1]):
            turns.append([])
        if learns:
            turns[-1].append(t)
    return turns


def as_lists(mask_BT, earned_BT):
    """(turns, rewards of each turn) of every row."""
    turns = [turns_of(mask_T) for mask_T in mask_BT]
    return turns, [[float(earned_BT[b, turn].sum()) for turn in turns[b]] for b in range(len(turns))]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 200))
def test_turns_are_the_runs_of_learning_tokens(seed):
    mask_BT, turn_BT, earned_BT, *_ = conversations(seed)
    turns, rewards = as_lists(mask_BT, earned_BT)
    for b, runs in enumerate(turns):
        assert turn_counts(turn_BT)[b] == len(runs)
        expected = [next((k for k, run in enumerate(runs) if t in run), -1) for t in range(WIDTH)]
        assert turn_BT[b].tolist() == expected
        assert turn_ends(turn_BT)[b].nonzero().flatten().tolist() == [run[-1] for run in runs]
        assert turn_starts(turn_BT)[b].nonzero().flatten().tolist() == [run[0] for run in runs]
        assert sum_by_turn(earned_BT, turn_BT)[b, : len(runs)].tolist() == pytest.approx(rewards[b])
    back_BT = spread_over_turns(sum_by_turn(earned_BT, turn_BT), turn_BT)
    assert torch.equal(back_BT * turn_ends(turn_BT), earned_BT)


def peers(b, rewards_B, group_B):
    return [j for j in range(len(group_B)) if group_B[j] == group_B[b] and not rewards_B[j].isnan()]


def turns_loop(mask_BT, earned_BT, rewards_B, group_B, gamma=1.0):
    turns, rewards = as_lists(mask_BT, earned_BT)

    def to_go(j, k):
        if not turns[j]:
            return float(rewards_B[j])
        k = min(k, len(turns[j]) - 1)
        return sum(gamma ** (m - k) * rewards[j][m] for m in range(k, len(turns[j])))

    credit_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    for b, runs in enumerate(turns):
        others = [j for j in peers(b, rewards_B, group_B) if j != b]
        for k, run in enumerate(runs):
            if others and not rewards_B[b].isnan():
                credit_BT[b, run] = to_go(b, k) - sum(to_go(j, k) for j in others) / len(others)
    return credit_BT


def zscore(value, values, eps):
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))
    return (value - mean) / (spread + eps) if max(values) > min(values) else 0.0


def mt_loop(member: MTGRPO, mask_BT, earned_BT, rewards_B, group_B):
    turns, rewards = as_lists(mask_BT, earned_BT)
    credit_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)

    def returns(j, k):
        return sum(member.gamma ** (m - k) * rewards[j][m] for m in range(k, len(rewards[j])))

    for b, runs in enumerate(turns):
        if rewards_B[b].isnan():
            continue
        for k, run in enumerate(runs):
            reached = [[j for j in peers(b, rewards_B, group_B) if len(turns[j]) > m] for m in range(len(runs))]
            if member.estimator == "to_go":
                value = sum(
                    rewards[b][m] - sum(rewards[j][m] for j in reached[m]) / len(reached[m])
                    for m in range(k, len(runs))
                )
            elif member.estimator == "cae":
                value = zscore(returns(b, k), [returns(j, k) for j in reached[k]], member.eps)
            else:
                value = zscore(rewards[b][-1], [rewards[j][-1] for j in reached[0]], member.eps)
                if k < len(runs) - 1:
                    value += member.coef * zscore(rewards[b][k], [rewards[j][k] for j in reached[k]], member.eps)
            credit_BT[b, run] = value
    return credit_BT


def gigpo_loop(member: GiGPO, mask_BT, earned_BT, rewards_B, group_B, state_BT):
    turns, rewards = as_lists(mask_BT, earned_BT)
    credit_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)

    def returns(j, k):
        return sum(member.gamma ** (m - k) * rewards[j][m] for m in range(k, len(rewards[j])))

    for b, runs in enumerate(turns):
        if rewards_B[b].isnan():
            continue
        group = peers(b, rewards_B, group_B)
        times = {j: len(turns[j]) if member.across_steps else 1 for j in group}
        episode = float(rewards_B[b]) - sum(times[j] * float(rewards_B[j]) for j in group) / sum(times.values())
        for k, run in enumerate(runs):
            alike = [
                (j, m)
                for j in group
                for m in range(len(turns[j]))
                if state_BT[j, turns[j][m][0]] == state_BT[b, run[0]]
            ]
            step = returns(b, k) - sum(returns(j, m) for j, m in alike) / len(alike)
            credit_BT[b, run] = episode + member.omega * step
    return credit_BT


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 200))
def test_every_spread_by_turn_is_its_loop(seed):
    mask_BT, turn_BT, earned_BT, rewards_B, group_B, state_BT = conversations(seed)
    same = {"rtol": 0, "atol": 1e-11}
    for gamma in (1.0, 0.5):
        expected = turns_loop(mask_BT, earned_BT, rewards_B, group_B, gamma)
        torch.testing.assert_close(Turns(gamma)(earned_BT, turn_BT, mask_BT, rewards_B, group_B), expected, **same)
    for member in (MTGRPO(), MTGRPO("cae", gamma=0.9), MTGRPO("to_go"), MTGRPO(coef=0.3)):
        expected = mt_loop(member, mask_BT, earned_BT, rewards_B, group_B)
        torch.testing.assert_close(
            member(earned_BT, turn_BT, mask_BT, rewards_B, group_B), expected, rtol=1e-9, atol=1e-9
        )
    for member in (GiGPO(), GiGPO(across_steps=False), GiGPO(omega=0.5, gamma=1.0)):
        expected = gigpo_loop(member, mask_BT, earned_BT, rewards_B, group_B, state_BT)
        torch.testing.assert_close(member(earned_BT, turn_BT, state_BT, mask_BT, rewards_B, group_B), expected, **same)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 200), st.floats(0, 1))
def test_smearing_keeps_what_a_row_earned_and_reaches_back_only(seed, gamma):
    _, turn_BT, earned_BT, *_ = conversations(seed)
    rewards_BJ = sum_by_turn(earned_BT, turn_BT)
    shared_BJ = smear(rewards_BJ, gamma)
    torch.testing.assert_close(shared_BJ.sum(dim=1), rewards_BJ.sum(dim=1), rtol=0, atol=1e-12)
    for b, row in enumerate(rewards_BJ.tolist()):
        for k in range(len(row)):
            reach = [sum(gamma ** (m - i) for i in range(m + 1)) for m in range(len(row))]
            expected = sum(row[m] * gamma ** (m - k) / reach[m] for m in range(k, len(row)))
            assert shared_BJ[b, k] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 100))
def test_turns_with_the_reward_at_the_end_is_leave_one_out(seed):
    mask_BT, turn_BT, _, rewards_B, group_B, _ = conversations(seed)
    last_BT = turn_ends(turn_BT) & (turn_BT == (turn_counts(turn_BT) - 1)[:, None])
    at_end_BT = rewards_B.nan_to_num()[:, None] * last_BT
    made = {"turn_BT": turn_BT, "turn_rewards_BT": at_end_BT}
    rollout = Rollout(rewards_B, group_B, mask_BT, WIDTH).with_provided(made)
    by_turn = Strategy(weight.constant, baseline.none, Turns()).score(rollout).advantages_BT
    by_row = Strategy(weight.constant, baseline.leave_one_out).score(rollout).advantages_BT
    torch.testing.assert_close(by_turn, by_row, rtol=0, atol=1e-12)
    assert by_row.abs().max() > 0.01


def test_rows_that_agree_get_exactly_nothing():
    mask_BT = torch.ones(3, 4, dtype=torch.bool)
    mask_BT[:, 1] = False
    turn_BT, third = turn_index(mask_BT), torch.full((3,), 0.1, dtype=torch.float64)
    earned_BT = third[:, None] * turn_ends(turn_BT)
    rewards_B, group_B, state_BT = earned_BT.sum(dim=1), torch.zeros(3, dtype=torch.long), turn_BT
    for member in (Turns(), MTGRPO(), MTGRPO("cae"), MTGRPO("to_go")):
        assert not member(earned_BT, turn_BT, mask_BT, rewards_B, group_B).any()
    assert not GiGPO()(earned_BT, turn_BT, state_BT, mask_BT, rewards_B, group_B).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Turns(1.5),
        lambda: MTGRPO("best"),
        lambda: MTGRPO(eps=-1.0),
        lambda: GiGPO(omega=-1.0),
        lambda: TurnDiscount(gamma=-0.1),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("name", ["quarry", "chores", "quarry:transformer"])
def test_turns_has_no_bias_where_the_number_of_turns_is_a_choice(name):
    world_name, _, policy = name.partition(":")
    found = measure(exact(world(world_name), policy or "tabular"), named_strategy("turns"), 2)
    assert found.exact and found["relative_bias"] < 1e-9 and found["nsr"] < 100


CODED = {
    "mt_grpo credit.spread.estimator=to_go": lambda *a: mt_loop(MTGRPO("to_go"), *a[:4]),
    "mt_grpo": lambda *a: mt_loop(MTGRPO(), *a[:4]),
    "gigpo": lambda *a: gigpo_loop(GiGPO(), *a),
}


@pytest.mark.parametrize("words", CODED)
def test_the_bias_of_the_published_ones_is_what_a_plain_sum_over_all_pairs_gives(words):
    """The lab's mean against a loop over every pair of conversations of a prompt, with the loops above."""
    learner = exact(world("quarry"))
    tree = learner.tree
    found = measure(learner, named_strategy(f"{words} credit/weight=constant"), 2)
    assert found.exact and 0.05 < found["relative_bias"] < 1
    earned_NT = earned_by_turn_end(tree.span_rewards_NT, turn_index(tree.mask_NT))
    mean_D = torch.zeros_like(learner.reward_gradient)
    group_B = torch.zeros(2, dtype=torch.long)
    for prompt in range(2):
        texts = torch.nonzero(tree.prompt_N == prompt).flatten().tolist()
        for one in texts:
            for other in texts:
                pair = torch.tensor([one, other])
                credit_BT = CODED[words](
                    tree.mask_NT[pair], earned_NT[pair], tree.rewards_N[pair], group_B, tree.shown_NT[pair]
                )
                chance = learner.probs_N[one] * learner.probs_N[other]
                # constant: 1 / (B L_max), two prompts of two rows
                update_D = torch.einsum("bt,btd->d", credit_BT, learner.scores_NTD[pair]) / (4 * tree.world.max_length)
                mean_D += chance * update_D
    torch.testing.assert_close(found.mean_D, mean_D, rtol=0, atol=1e-12)
