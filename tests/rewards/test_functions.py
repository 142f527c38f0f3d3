"""Every reward function: never raises, stays in its range, gives gold its best and an empty text its stated value."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.accuracy import exact_match, multiple_choice, numeric_match, to_number
from rewards.compose import clip, cosine_by_length, gate, scale, weighted_sum
from rewards.extract import after_marker, first_of, in_tag, last_boxed, last_code_block, last_number, whole_text
from rewards.format import regex_format
from rewards.guard import guarded
from rewards.maths import math_equal
from rewards.phrases import forbidden_phrases, required_phrases
from rewards.shape import length_target, repetition, soft_overlong
from rewards.structured import json_schema, json_valid
from rewards.tags import tag_structure, think_answer
from support.text_strategies import mixed, texts

GOLD = "<think>2+2</think><answer>4</answer>"
PATTERN = r"<think>.*?</think><answer>(?P<answer>.*?)</answer>"
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
COLUMNS = {"answer": ["4"], "completion_ids": [[1, 2, 3]]}
RIGHT = in_tag("answer")

# name: (reward, lowest, highest, a gold text or None, score of the empty text)
REWARDS = {
    "regex full": (regex_format(PATTERN), 0, 1, GOLD, 0),
    "regex search": (regex_format(r"</think>", match="search"), 0, 1, GOLD, 0),
    "regex groups": (regex_format(PATTERN, groups={"answer": 0.5}), 0, 0.5, GOLD, 0),
    "regex flags": (regex_format("<THINK>.*", flags="IGNORECASE|DOTALL"), 0, 1, GOLD, 0),
    "tags": (tag_structure(["think", "answer"]), 0, 1, GOLD, 0),
    "tags all": (think_answer(credit="all"), 0, 1, GOLD, 0),
    "json": (json_valid(), 0, 1, '{"a": [1, null]}', 0),
    "json block": (json_valid(last_code_block("json")), 0, 1, "So:\n```json\n[1]\n```\n", 0),
    "schema": (json_schema(SCHEMA, valid=0.3), 0, 1, '{"a": 1}', 0),
    "exact": (exact_match(RIGHT), 0, 1, GOLD, 0),
    "words": (exact_match(RIGHT, normalise="words"), 0, 1, "<answer> (4). </answer>", 0),
    "numeric": (numeric_match(), 0, 1, "so it is 4.0", 0),
    "choice": (multiple_choice(), 0, 1, None, 0),
    "math": (math_equal(), 0, 1, r"$\boxed{\frac{8}{2}}$", 0),
    "length": (length_target(3, tolerance=1), 0, 1, GOLD, 1),
    "overlong": (soft_overlong(100, 20, unit="characters"), -1, 0, GOLD, 0),
    "repetition": (repetition(2, unit="characters"), -1, 0, "abcdef", 0),
    "required": (required_phrases(["think", "answer"]), 0, 1, GOLD, 0),
    "forbidden": (forbidden_phrases(["sorry", "as an AI"]), -1, 0, GOLD, 0),
    "gate": (gate(exact_match(RIGHT), think_answer(), otherwise=-0.5), -0.5, 1, GOLD, -0.5),
    "clip": (clip(think_answer(), high=0.5), 0, 0.5, GOLD, 0),
    "scale": (scale(think_answer(), factor=-2, offset=2), 0, 2, "", 2),
    "sum": (weighted_sum([think_answer(), exact_match(RIGHT)], [0.2, 0.8]), 0, 1, GOLD, 0),
    "cosine": (cosine_by_length(exact_match(RIGHT), 10, unit="words"), -1, 1, None, -1),
}


def one(reward, text, **columns):
    (score,) = reward(prompts=["q"], completions=[text], **{**COLUMNS, **columns})
    return score


@pytest.mark.parametrize("name", REWARDS)
def test_gold_scores_full_and_empty_scores_as_documented(name):
    reward, _, highest, gold, empty = REWARDS[name]
    if gold is not None:
        assert one(reward, gold) == pytest.approx(highest)
    assert one(reward, "") == pytest.approx(empty)
    assert isinstance(reward.__name__, str) and reward.__name__


@pytest.mark.parametrize("name", [name for name in REWARDS if name != "math"])
def test_no_text_raises_or_leaves_the_range(name):
    reward, lowest, highest, _, _ = REWARDS[name]

    @given(texts)
    @settings(max_examples=60, deadline=None)
    def check(text):
        score = one(reward, text)
        assert score is not None and lowest - 1e-9 <= score <= highest + 1e-9

    check()


@given(mixed)
@settings(max_examples=25, deadline=None)
def test_math_never_raises(text):
    assert one(REWARDS["math"][0], text) in (0.0, 1.0)


@pytest.mark.parametrize("name", REWARDS)
def test_conversations_score_like_their_text(name):
    reward, _, _, gold, _ = REWARDS[name]
    for text in (gold or "x y", ""):
        message = [{"role": "assistant", "content": text}]
        blocks = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
        assert one(reward, message) == one(reward, blocks) == one(reward, text)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_can_be_pickled_and_guarded(name):
    reward, _, _, gold, _ = REWARDS[name]
    again = guarded(pickle.loads(pickle.dumps(reward)))
    assert one(again, gold or "B") == one(reward, gold or "B") and again.__name__ == reward.__name__


@pytest.mark.parametrize("name", ["exact", "numeric", "choice", "math"])
def test_accuracy_takes_any_of_several_references_and_abstains_without_one(name):
    reward, text = REWARDS[name][0], {"exact": GOLD, "numeric": "4", "choice": "B", "math": r"\boxed{4}"}[name]
    reference = {"choice": "B"}.get(name, "4")
    assert one(reward, text, answer=[["nothing", reference]]) == 1
    assert one(reward, text, answer=[["1", "2"]]) == 0
    assert one(reward, text, answer=[None]) is None
    assert one(reward, text, answer=[[]]) is None


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"'exact_match' needs the dataset column 'answer'; columns given: solution"):
        exact_match()(prompts=["q"], completions=["x"], solution=["4"])


# Extraction


@given(st.text(alphabet="ab{} ", max_size=8).filter(lambda s: s.count("{") == s.count("}") == 0), mixed)
@settings(deadline=None)
def test_the_last_box_is_read_with_its_braces(content, before):
    assert last_boxed()(before.replace("{", "") + rf"\boxed{{x{{{content}}}y}} and so on") == f"x{{{content}}}y"


@pytest.mark.parametrize(
    "extract, text, found",
    [
        (last_boxed(), r"\boxed{1} then \boxed{\frac{1}{2}} then \boxed{", r"\frac{1}{2}"),
        (last_boxed(), r"} \boxed{ }", None),
        (in_tag("answer"), "<answer>1</answer><answer> 2 </answer>", "2"),
        (in_tag("answer"), "</answer><answer>", None),
        (after_marker("####"), "so #### 7 \nnot this", "7"),
        (after_marker("####"), "no marker", None),
        (last_number(), "1,234.5 and -3e2, then 3/4.", "3/4"),
        (last_number(), "version 1.2.3 of x86", None),
        (last_code_block("json"), "```json\n{}\n```\n```py\nx\n```\n", "{}"),
        (last_code_block(), "```py\nx\n```\n```json\n{}", "x"),
        (whole_text(), "  ", None),
        (first_of(last_boxed(), last_number()), "it is 5", "5"),
    ],
)
def test_extraction_by_example(extract, text, found):
    assert extract(text) == found


@given(st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e9, 1e9).map(lambda x: round(x, 6))), st.booleans())
@settings(deadline=None)
def test_numbers_are_read_back_as_written(number, commas):
    text = f"the total is {number:,}." if commas else f"the total is {number}"
    if "e" not in str(number):
        assert numeric_match()(prompts=None, completions=[text], answer=[number]) == [1.0]


@pytest.mark.parametrize(
    "text, value", [("50%", 0.5), ("3/4", 0.75), ("$1,000", 1000), ("1/0", None), ("nan", None), ("x", None)]
)
def test_to_number_by_example(text, value):
    assert to_number(text) == value


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"),
        ("(b)", "B"),
        ("C. because", "C"),
        ("The answer is (D)", "D"),
        ("option A or option C", ""),
        ("A cat", ""),
    ],
)
def test_choices_are_read_in_their_usual_forms(text, letter):
    given_letters = [one(multiple_choice(), text, answer=[choice]) for choice in "ABCDE"]
    assert given_letters == [float(choice == letter) for choice in "ABCDE"]
    assert one(multiple_choice(), "B", answer=[1]) == 1


# Format


def test_a_catastrophic_pattern_costs_its_timeout_only():
    reward = guarded(regex_format(r"(?:a|a?)+$(?<=b)x|(.*)*(.*)*(.*)*[^a]z", timeout=0.2), max_failed_share=1.0)
    scores = reward(prompts=[""] * 2, completions=["a" * 4000 + "c", "bz"])
    assert scores[1] == 1.0
    assert scores[0] is None and reward.counts.timeout == 1


@given(st.permutations(["open", "close"] * 2), st.booleans())
@settings(deadline=None)
def test_only_the_tags_in_order_earn_every_rule(order, blank):
    text = "".join({"open": "<think>", "close": "</think>"}[kind] + ("" if blank else "x") for kind in order)
    assert one(tag_structure(["think"], credit="all"), text) == 0  # each tag twice
    inside = " " if blank else "x"
    assert one(tag_structure(["think"], credit="all"), f"<think>{inside}</think>") == float(not blank)


@pytest.mark.parametrize(
    "text, lost",
    [
        (GOLD, set()),
        ("<answer>4</answer><think>x</think>", {"think: order", "answer: order"}),
        (
            "<think>x</answer>",
            {"think: close", "think: filled", "answer: open", "answer: order", "answer: close", "answer: filled"},
        ),
        ("<think></think><answer>4</answer>", {"think: filled"}),
        ("<think>a</think><answer>4</answer></answer>", {"answer: close", "answer: order"}),
        ("<think><think>a</think><answer>4</answer>", {"think: open"}),
    ],
)
def test_each_broken_tag_rule_costs_its_own_share(text, lost):
    reward = think_answer()
    assert {rule for rule, kept in reward.parts(text).items() if not kept} == lost
    assert one(reward, text) == 1 - len(lost) / 8


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=8,
    )
)
@settings(deadline=None)
def test_whatever_json_dumps_writes_is_valid_json(value):
    assert one(json_valid(), json.dumps(value)) == 1
    assert one(json_valid(), json.dumps(value) + " x") == 0


def test_nested_brackets_and_nan_are_no_json_and_no_error():
    for text in ("[" * 100_000, "NaN", "{'a': 1}"):
        assert one(json_valid(), text) == 0


def test_a_number_longer_than_python_reads_is_json():
    assert one(json_valid(), "1" * 5000) == 1 and one(json_schema({"type": "number"}), "-" + "1" * 5000) == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: regex_format("("), "does not compile"),
        (lambda: regex_format("a", match="partial"), "full, search"),
        (lambda: regex_format("a", flags="DOTAL"), "did you mean 'DOTALL'"),
        (lambda: regex_format("(?P<answer>a)", groups={"anser": 1}), "did you mean 'answer'"),
        (lambda: regex_format("a", timeout=0), "positive seconds"),
        (lambda: tag_structure([]), "at least one"),
        (lambda: tag_structure(["<think>"]), "bare names"),
        (lambda: tag_structure(["a"], credit="some"), "rules, all"),
        (lambda: json_schema({"type": "objekt"}), "no JSON schema"),
        (lambda: json_schema("missing.json"), "no schema file"),
        (lambda: exact_match(normalise="lower"), "none, strip, words"),
        (lambda: numeric_match(relative=-1), "at least 0"),
        (lambda: soft_overlong(10, 20), "between 0 and max_length"),
        (lambda: repetition(0), "ngram >= 1"),
        (lambda: length_target(3, unit="bytes"), "tokens, words, characters"),
        (lambda: required_phrases([""]), "non-empty"),
        (lambda: clip(think_answer(), low=1, high=0), "low <= high"),
        (lambda: scale(think_answer(), factor=float("nan")), "finite"),
        (lambda: weighted_sum([think_answer()], [1, 2]), "one finite weight"),
        (lambda: cosine_by_length(think_answer(), 0), "max_length >= 1"),
        (lambda: math_equal(timeout=0), "positive seconds"),
        (lambda: in_tag("<answer>"), "bare name"),
        (lambda: first_of(), "at least one"),
    ],
)
def test_wrong_arguments_are_told_with_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Shape


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
@settings(deadline=None)
def test_repetition_is_the_share_of_ngrams_seen_before(ids, ngram):
    seen, repeated, total = set(), 0, 0
    for start in range(len(ids) - ngram + 1):
        gram = tuple(ids[start : start + ngram])
        repeated += gram in seen
        seen.add(gram)
        total += 1
    expected = -repeated / total if total else 0.0
    assert one(repetition(ngram), "", completion_ids=[ids]) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 20), st.floats(0, 10), st.floats(0.1, 20))
@settings(deadline=None)
def test_length_target_is_one_inside_the_tolerance_and_falls_straight(length, target, tolerance, slope):
    score = one(length_target(target, tolerance=tolerance, slope=slope), "", completion_ids=[[0] * length])
    beyond = abs(length - target) - tolerance
    assert score == pytest.approx(1.0 if beyond <= 0 else max(0.0, 1 - beyond / slope))


# Composition


@given(
    st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=1, max_size=8),
    st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=8, max_size=8),
)
@settings(deadline=None)
def test_gate_lets_the_first_through_where_the_second_passed(first, second):
    def a(completions, **_):
        return first

    def b(completions, **_):
        return second[: len(first)]

    expected = [None if t is None else (s if t >= 0.5 else -1.0) for s, t in zip(first, second)]  # noqa: B905
    assert gate(a, b, at_least=0.5, otherwise=-1.0)(prompts=None, completions=[""] * len(first)) == expected


def test_a_composition_logs_each_of_its_functions():
    logged = {}
    reward = gate(exact_match(RIGHT, name="answer"), think_answer(), name="both")
    reward(prompts=[""] * 2, completions=[GOLD, "x"], answer=["4", "4"], log_metric=logged.__setitem__)
    assert logged == {"rewards/answer/mean": 0.5, "rewards/think_answer/mean": 0.5}


def test_a_composition_of_async_functions_is_async():
    import asyncio
    import inspect

    async def later(completions, **columns):
        await asyncio.sleep(0)
        return [2.0 for _ in completions]

    reward = scale(weighted_sum([later, think_answer()]), factor=10)
    assert inspect.iscoroutinefunction(reward)
    assert asyncio.run(reward(prompts=None, completions=[GOLD])) == [30.0]
