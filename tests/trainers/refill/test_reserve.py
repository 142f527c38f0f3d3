"""The reserve: every row once a pass, none that is barred while another is left, and the same rows after a resume."""

from __future__ import annotations

from collections import Counter

import pytest

from trainers.refill.reserve import Reserve


def reserve(size: int, seed: int = 0, **options) -> Reserve:
    return Reserve(str, size, seed, **options)


def test_a_pass_is_every_row_once_and_the_next_has_another_order():
    made = reserve(7)
    passes = [[made.draw(1, [])[0] for _ in range(7)] for _ in range(3)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert passes[0] != passes[1] != passes[2] and passes != [[*range(7)]] * 3
    other = reserve(7, seed=1)
    assert [other.draw(1, [])[0] for _ in range(7)] != passes[0]


def test_rows_in_their_own_order_stay_in_it():
    assert reserve(3, shuffled=False).draw(3, []) == [0, 1, 2]


def test_a_row_that_may_not_be_taken_waits_and_comes_first_the_next_time():
    made = reserve(5, shuffled=False)
    assert made.draw(2, [{"0", "1"}]) == [2, 3]
    assert made.draw(3, [set()]) == [0, 1, 4]


def test_no_prompt_comes_twice_in_a_draw_while_another_is_left():
    made = reserve(6)
    for _ in range(20):
        assert len(set(made.draw(6, [set()]))) == 6


def test_what_is_avoided_longest_is_taken_last():
    made, tried, kept = reserve(5), {"0", "1", "2"}, {"2"}
    for _ in range(9):
        drawn = made.draw(6, [tried, kept])
        assert sorted(drawn[:2]) == [3, 4] and sorted(drawn[2:4]) == [0, 1], "not the ones that were tried, but kept"
        assert len(made.state_dict()["waiting"]) <= 5
    assert tried == {"0", "1", "2"} and kept == {"2"}, "the caller's sets were written into"


@pytest.mark.parametrize("size", [1, 2, 9])
def test_it_goes_on_from_its_state(size):
    whole, dealt = reserve(size), []
    for step in range(12):
        state = whole.state_dict()
        dealt.append(whole.draw(2, [{str(step % size)}]))
        again = reserve(size)
        again.load_state_dict(state)
        assert again.draw(2, [{str(step % size)}]) == dealt[-1] and again.state_dict() == whole.state_dict()
    assert len(Counter(row for each in dealt for row in each)) == size
