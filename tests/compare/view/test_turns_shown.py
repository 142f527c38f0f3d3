"""What turns earned, and the sum of their credit, beside each turn."""

from __future__ import annotations

from compare.records import find_records, read_record
from compare.view.steps import view_of_step
from compare.view.terminal import shown_by_turn
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
