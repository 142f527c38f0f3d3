"""Spans add up to the reward, and are decided by the text up to their end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.accuracy import exact_match
from rewards.compose import clip, gate, scale, weighted_sum
from rewards.extract import in_tag
from rewards.format import regex_format
from rewards.phrases import forbidden_phrases, required_phrases
from rewards.tags import tag_structure, think_answer
from rewards.text.spans import Span, span_total
from support.text_strategies import mixed

PATTERN = r"<think>[^<]*</think>\s*<answer>(?P<answer>[^<]*)</answer>"
CAUSAL = {
    "regex full": regex_format(PATTERN),
    "form": regex_format("think_answer"),
    "regex search": regex_format(r"</think>\s", match="search"),
    "tags": think_answer(),
    "tags all": think_answer(credit="all"),
    "tags, text outside": tag_structure(["think", "answer"], credit="all"),
    "one tag": tag_structure(["think"]),
    "required": required_phrases(["think", "4"], words=False),
    "forbidden": forbidden_phrases(["answer", "a"], words=False),
    "clip": clip(think_answer(), low=0.25, high=0.75),
    "scale": scale(think_answer(), factor=-2.0, offset=1.0),
}
SUMS_ONLY = {
    "regex groups": regex_format(PATTERN, groups={"answer": 0.5}),
    "words": required_phrases(["think", "a"]),
    "with an answer": weighted_sum([think_answer(), exact_match(in_tag("answer"))], [0.2, 0.8]),
}


@pytest.mark.parametrize("name", [*CAUSAL, *SUMS_ONLY])
def test_spans_add_up_to_the_reward_and_stay_in_the_text(name):
    reward = (CAUSAL | SUMS_ONLY)[name]

    @given(st.lists(mixed, min_size=1, max_size=3))
    @settings(deadline=None, max_examples=60)
    def check(texts):
        call = {"prompts": [""] * len(texts), "completions": texts, "answer": ["4"] * len(texts)}
        for text, score, spans in zip(texts, reward(**call), reward.spans(**call), strict=True):
            assert span_total(spans) == pytest.approx(score, abs=1e-9)
            assert all(0 <= span.start <= span.end <= len(text) for span in spans)

    check()


@pytest.mark.parametrize("name", CAUSAL)
def test_a_span_is_decided_by_the_text_up_to_its_end(name):
    reward = CAUSAL[name]

    def settled(text, upto):
        # An empty span is decided by the next character, so it must end before the cut.
        (spans,) = reward.spans(prompts=None, completions=[text])
        kept = [span for span in spans if span.end + (span.start == span.end) <= upto]
        return {(span.end, round(sum(s.value for s in kept if s.end == span.end), 9)) for span in kept}

    @given(mixed, mixed, mixed)
    @settings(deadline=None, max_examples=80)
    def check(prefix, one, other):
        assert settled(prefix + one, len(prefix)) - _zero == settled(prefix + other, len(prefix)) - _zero

    check()


class _Zeros:
    def __rsub__(self, spans):
        return {(end, value) for end, value in spans if value}


_zero = _Zeros()


def test_a_wrong_closing_tag_is_not_blamed_on_the_opening_one():
    text = "<think>a</think><answer>4</wrong>"
    (tags,) = think_answer().spans(prompts=None, completions=[text])
    assert sum(span.value for span in tags if span.end <= text.index("</wrong>")) == pytest.approx(6 / 8)
    assert not [span for span in tags if span.start >= text.index("</wrong>")]
    (full,) = regex_format(PATTERN).spans(prompts=None, completions=[text])
    mistake = text.index("</wrong>") + 2
    assert full == [Span(0, 1, 1.0), Span(mistake, mistake + 1, -1.0)]


def test_ending_too_early_is_decided_by_the_decision_to_end():
    text = "<think>a"
    (spans,) = regex_format(PATTERN).spans(prompts=None, completions=[text])
    assert spans[-1] == Span(len(text), len(text), -1.0)


def test_asking_for_the_spans_of_a_composition_logs_nothing():
    logged = []
    reward = scale(think_answer(), factor=2.0)
    call = {"prompts": [""], "completions": ["x"], "log_metric": lambda *entry: logged.append(entry)}
    reward(**call)
    assert logged.pop() == ("rewards/think_answer/mean", 0.0)
    weighted_sum([reward, gate(exact_match(in_tag("answer")), think_answer())]).spans(**call, answer=["4"])
    assert not logged
