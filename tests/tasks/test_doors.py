"""The task in which credit decides: its reward and where it was earned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.text.spans import span_total
from tasks.doors import door_share, doors

KEYS = st.text("abcd", min_size=1, max_size=12)


@given(KEYS, st.text(max_size=14))
def test_spans_add_up_to_the_share_and_sit_on_single_letters(key, text):
    share = door_share(key)
    (spans,), (score,) = share.spans(completions=[text]), share(completions=[text])
    assert span_total(spans) == pytest.approx(score)
    assert all(span.end == span.start + 1 and text[span.start] == key[span.start] for span in spans)


@given(KEYS, st.text("abcd", max_size=14), st.text("abcd", max_size=5))
def test_a_span_is_decided_by_the_text_up_to_its_end(key, text, more):
    (before,), (after,) = (door_share(key).spans(completions=[t]) for t in (text, text + more))
    assert after[: len(before)] == before


@given(KEYS)
def test_the_key_itself_earns_one_and_nothing_earns_none(key):
    assert door_share(key)(completions=[key, "", key + key]) == [pytest.approx(1.0), 0.0, pytest.approx(1.0)]


def test_random_letters_open_one_door_in_four():
    task = doors(count=64)
    texts = [row["completion"] for row in task.demonstrations(2000, 0)]
    scores = task.reward_funcs[0](completions=texts)
    assert sum(scores) / len(scores) == pytest.approx(0.25, abs=0.006)  # five standard errors
    assert {len(text) for text in texts} == {64} and set("".join(texts)) == set("abcd")


def test_the_key_follows_from_the_seed():
    keys = [doors(seed=seed).reward_funcs[0].key for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("settings", [{"count": 0}, {"options": 1}, {"options": 27}, {"n_train": 0}])
def test_sizes_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="task=doors needs"):
        doors(**settings)
