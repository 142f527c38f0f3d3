"""Conversations in TRL's tool loop: none has a say in another, a fault costs its own, and what turns earned is kept."""

from __future__ import annotations

import inspect
import random

import pytest
import torch
from trl import GRPOTrainer

from rewards.text.turns import turns_of
from support.ranks.environments import COUNT, Abstaining, Hostile, Paid, player
from support.ranks.playing import PLACES, ROWS, as_json, played
from support.runs import RANKS, run_ranks
from tasks.environments.numbers import Numbers
from tasks.errands import Errands
from trainers.evaluation.measures import ENVIRONMENTS, counts_of
from trainers.evaluation.playing import RowsInLoop, row_name
from trainers.evaluation.talks import lines_of_talk

pytest.importorskip("jmespath", reason="TRL's tools need it: the extra `tools`")
pytestmark = pytest.mark.skipif(
    "environment_factory" not in inspect.signature(GRPOTrainer.__init__).parameters,
    reason="this trl has no environments",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All conversations in one batch; the global sources stand elsewhere each time."""
    random.seed(1)
    return {greedy: played(tmp_path_factory.mktemp("whole"), greedy=greedy) for greedy in (False, True)}


@pytest.mark.parametrize("greedy", [False, True])
def test_however_the_batch_is_cut_the_conversations_are_the_same(tmp_path, whole, greedy):
    random.seed(2)
    torch.manual_seed(2)
    backwards = played(tmp_path, batch=4, places=PLACES[::-1], greedy=greedy)
    assert as_json(backwards) == as_json(whole[greedy])
    alone = played(tmp_path, batch=1, places=[(1, 2)], greedy=greedy)
    assert alone == {(1, 2): whole[greedy][1, 2]}
    talks = [one.messages for one in whole[greedy].values()]
    assert greedy or (max(map(len, map(turns_of, talks))) > COUNT / 2 and len(set(map(str, talks))) > 6)


@pytest.mark.slow
def test_two_processes_play_the_same_conversations(tmp_path, whole):
    run_ranks(RANKS / "playing.py", tmp_path)
    for greedy, found in whole.items():
        assert (tmp_path / f"{greedy}.json").read_text() == as_json(found)


def test_models_meet_the_same_games_and_samples_of_a_row_others(tmp_path, whole):
    other = played(tmp_path, model=player(seed=1))
    begun = {place: one.messages[0] for place, one in whole[False].items()}
    assert {place: one.messages[0] for place, one in other.items()} == begun
    assert other != whole[False] and len(set(map(str, begun.values()))) > 1
    numbers = [Numbers(f"0 {row_name(row, True)} {sample}") for row in ROWS[:2] for sample in range(2)]
    drawn = []
    for each in numbers:
        with each.used():
            drawn.append(random.random())
    assert len(set(drawn)) == 4


def test_numbers_of_ones_own_go_on_and_leave_the_global_ones_alone():
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    own, found, seen = Numbers("a"), [], []
    for _ in range(3):
        with own.used():
            seen.append((random.random(), float(torch.rand(()))))
        found.append(random.random())
    assert found == expected and len(set(seen)) == 3
    with Numbers("a").used():
        assert (random.random(), float(torch.rand(()))) == seen[0]


def test_a_fault_costs_its_own_conversation_and_is_counted(tmp_path):
    places = [(prompt, sample) for prompt in range(3) for sample in range(6)]
    found = {}
    for kind in (Hostile, Abstaining):
        Hostile.made = 0
        found[kind] = played(tmp_path, kind, batch=18, places=places, environment_timeout=0.2)
    faults = {place for place, one in found[Hostile].items() if one.fault}
    assert faults and faults != set(places)
    for place, one in found[Hostile].items():
        twin = found[Abstaining][place]
        assert one.messages == twin.messages and one.reward == twin.reward and (one.reward is None) == (place in faults)
    counts = counts_of(list(found[Hostile].values()), ["environment"])
    assert counts[ENVIRONMENTS]["failed"] == len(faults) == sum(counts[ENVIRONMENTS]["kinds"].values())
    assert counts["environment"] == {"abstained": 0, "failed": 0, "kinds": {}}
    with pytest.raises(ValueError, match="went wrong in more than half"):
        played(tmp_path, Hostile, batch=18, places=places, failed_share=0.01, environment_timeout=0.2)


def test_what_turns_earned_is_kept_with_the_conversation(tmp_path):
    for make, more in ((lambda: Errands(COUNT, 2, 0.0), 0.0), (Paid, 0.5)):
        found = list(played(tmp_path, make, places=PLACES[:6]).values())
        for one in found:
            turns = turns_of(one.messages)
            assert len(one.earned) == len(turns) and sum(one.earned) == pytest.approx(one.reward, abs=1e-5)
            right = [value - more * (turn == len(turns) - 1) for turn, value in enumerate(one.earned)]
            assert all(value == pytest.approx(round(value * COUNT) / COUNT, abs=1e-5) for value in right)
            assert one.tokens <= 24 and not (one.ended and turns[-1].calls)
        assert any(one.reward > more for one in found) and any(one.ended for one in found)


def test_a_conversation_cut_by_its_turns_has_not_ended(tmp_path):
    found = played(tmp_path, places=PLACES, max_tool_calling_iterations=1)
    cut = [one for one in found.values() if turns_of(one.messages)[-1].calls]
    assert cut and not any(one.ended for one in cut)


# ---- which rows the loop is at


def test_rows_that_look_alike_are_told_apart_by_who_was_answered():
    call, answer = {"role": "assistant", "tool_calls": [{}]}, {"role": "tool", "content": "x"}
    prompts, completions, talks = [[1], [1], [2]], [[5], [5], [6]], [[call], [call], [{"role": "assistant"}]]
    loop = RowsInLoop(prompts, completions, talks)
    talks[1].append(answer)  # the answer to row 0 was too long, and was taken back
    assert loop.asked([[1, 5, 9]]) == [1]
    completions[1] = [5, 9]  # nothing was left of its turn
    with pytest.raises(RuntimeError, match=r"other rows.*temperature=0"):
        loop.asked([[1, 5, 9]])
    talks[0].append(answer)
    with pytest.raises(RuntimeError, match="other rows"):
        loop.asked([[2, 6, 9]])


def test_a_row_is_named_by_all_that_its_environment_is_begun_with():
    prompt = [{"role": "user", "content": "go"}]
    names = {row_name({"prompt": prompt, **row}, True) for row in ({}, {"level": 1}, {"level": 2}, {"seed": 1})}
    assert len(names) == 4
    assert row_name({"prompt": prompt, "a": 1, "b": None}, True) == row_name(
        {"b": None, "prompt": prompt, "a": 1}, True
    )
    assert row_name({"prompt": "x", "level": 1}, False) == "x"


def test_a_conversation_is_shown_turn_by_turn():
    call = {"function": {"name": "move", "arguments": {"where": "left"}}}
    talk = [
        {"role": "system", "content": "play"},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "well", "tool_calls": [call]},
        {"role": "tool", "name": "move", "content": [{"type": "text", "text": "wall"}]},
        {"role": "assistant", "content": "oh"},
    ]
    assert lines_of_talk(talk, [0.5, 0.0]) == [
        "user: go",
        "turn 1 (+0.5): well -> move(where='left')",
        "tool move: wall",
        "turn 2 (+0): oh",
    ]
