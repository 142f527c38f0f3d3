"""What turns earned, and the sum of their credit, beside each turn."""

from __future__ import annotations

import math

from compare.records import find_records, read_record
from compare.view.data import credit_of
from compare.view.steps import view_of_step
from compare.view.terminal import shown_by_turn
from configs.compose import named_strategy
from support.records import rows, write

TOKENS = [["a", "b", "<tool>", "c"], ["d"]]
LEARNS = [[True, True, False, True], [True]]


def shown(folder, **more):
    folder.mkdir()
    record = write(folder, rows(TOKENS, [0, 0], [1.0, 0.0], learns=LEARNS, **more))
    return view_of_step(1, read_record(find_records(record)[1]), {})["groups"][0]["rows"]


def test_the_terminal_says_what_each_turn_earned_and_got(tmp_path):
    several, single = shown(tmp_path / "with", turn_rewards=[[0.0, 2.0, 0.0, -1e-9], [0.0]])
    # Credit 0.5 times weight 0.25 at each learning token: two tokens, then one.
    assert shown_by_turn(several, 0) == "earned \u2192 credit by turn: +2 \u2192 +0.25  +0 \u2192 +0.125"
    assert shown_by_turn(single, 0) is None
    assert shown_by_turn(shown(tmp_path / "without")[0], 0) == "credit by turn: +0.25  +0.125"


def test_a_turn_with_a_number_that_is_none_says_so_and_the_others_their_sum(tmp_path):
    several, _ = shown(tmp_path / "nan", credit=[[0.5, math.nan, 0.0, 0.5], [0.5]])
    assert shown_by_turn(several, 0) == "credit by turn: none  +0.125"


def test_totals_of_a_step_know_of_turns_idle_credit_and_environments_that_failed(tmp_path):
    folder = write(
        tmp_path,
        rows(
            TOKENS,
            [0, 0],
            [2.0, None],
            learns=LEARNS,
            turn_rewards=[[0.0, 2.0, 0.0, 1e-9], [0.0]],
            fault=[None, "\x1bdown"],
        ),
    )
    view = view_of_step(1, read_record(find_records(folder)[1]), {})
    # Three tokens of |A w| 0.125 in the first completion, the last of them idle, and one idle in the second.
    assert {key: view["summary"][key] for key in ("turns", "idle", "failed")} == {
        "turns": 1.5,
        "idle": 0.5,
        "failed": 0.5,
    }
    assert view["groups"][0]["rows"][1]["fault"] == "\\x1bdown"
    plain = view_of_step(1, read_record(find_records(write(tmp_path / "plain", rows([["a"]], [0], [1.0])))[1]), {})
    assert not {"turns", "idle", "failed"} & set(plain["summary"])


def test_credit_by_turn_is_computed_on_recorded_conversations(tmp_path):
    """Two completions of one group, which earn (0, 2) and (1): leave-one-out of what was still to come, held at the last turn."""
    made = rows(TOKENS, [0, 0], [2.0, 1.0], learns=LEARNS, turn_rewards=[[0.0, 0.0, 0.0, 2.0], [1.0]])
    advantages, _ = credit_of(named_strategy("turns"), read_record(find_records(write(tmp_path, made))[1]))
    assert advantages == [[1.0, 1.0, 0.0, 1.0], [-1.0]]
