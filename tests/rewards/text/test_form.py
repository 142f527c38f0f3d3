"""One definition of a well-formed answer: every format reward pays for it alone, and extraction finds its one answer."""

import inspect

import pytest
import regex
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.compose import CONFIG_DIR
from rewards.extract import in_tag
from rewards.format import regex_format
from rewards.tags import tag_structure, think_answer
from rewards.text.form import FORMS, SPACE
from support.reward_samples import chosen
from tasks.chain import PATTERN as CHAIN
from tasks.table import table_task

GOOD = ("<think>", "a", "</think>", "<answer>", "1", "</answer>")
PIECES = (
    *GOOD,
    " ",
    "\n",
    "\x1c",
    "<",
    ">",
    "<Think>",
    "</ answer >",
    "<answer/>",
    "<think id='1'>",
    "<thİnk>",
    "\u200b",
)

ALL = think_answer(credit="all")
FORM = regex_format("think_answer")


@st.composite
def nearly_good(draw):
    """A well-formed text with up to three pieces put in, and up to two taken out."""
    pieces = list(GOOD)
    for _ in range(draw(st.integers(0, 3))):
        pieces.insert(draw(st.integers(0, len(pieces))), draw(st.sampled_from(PIECES)))
    for _ in range(draw(st.integers(0, 2))):
        del pieces[draw(st.integers(0, len(pieces) - 1))]
    return "".join(pieces)


@given(nearly_good())
@settings(deadline=None, max_examples=600)
def test_the_format_rewards_agree_and_what_they_pay_has_one_answer_that_extraction_finds(text):
    paid = FORM.score(text)
    assert ALL.score(text) == paid == float(think_answer().score(text) == 1)
    if paid:
        inside = FORM._match(text).group("answer")
        assert in_tag("answer")(text) == inside.strip() != ""
        assert text.count("<answer>") == text.count("</answer>") == 1 and "<answer" not in inside.lower()


WELL_FORMED = (
    "<think>a</think><answer>1</answer>",
    "\n <think>\na < b > c\n</think>\r\n\n<answer> 1 </answer>\n",
    "<think>the <b>bold</b> thinking, 1 < 2</think><answer>-1/2</answer>",
    "<think>\u200b</think><answer>0</answer>",
)
ILL_FORMED = (
    "<think>a</think><answer>1</answer> no, wait <answer>9</answer>",
    "<think>a</think><answer>1</answer><answer>9</answer>",
    "<think>a</think><think>b</think><answer>1</answer>",
    "<think><think>a</think></think><answer>1</answer>",
    "<think>a</think><answer><answer>1</answer></answer>",
    "<think>a</think><answer>1</answer></answer>",
    "<think>a</think> so <answer>1</answer>",
    "Sure! <think>a</think><answer>1</answer>",
    "<think>a</think><answer>1</answer>.",
    "<think></think><answer>1</answer>",
    "<think> \n</think><answer>1</answer>",
    "<think>a</think><answer>\t</answer>",
    "<think>a <answer>1</answer></think><answer>2</answer>",
    "<think>a</think><answer><think>b</think>1</answer>",
    "<answer>1</answer><think>a</think>",
    "<think>a<answer>1</answer>",
    "<think>a</think><answer>1",
    "<Think>a</Think><Answer>1</Answer>",
    "<think>a</think><answer>1</answer ></answer>",
    "<think >a</think><answer>1</answer>",
    "<think>a</think><answer type='int'>1</answer>",
    "<think>a</think><ANSWER>0</ANSWER><answer>1</answer>",
    "",
)


def paid_by_the_configs(text):
    """What each YAML that promises the form pays for a text, the answer being right."""
    from rewards.build import resolve_rewards

    values, default = {}, inspect.signature(table_task).parameters["pattern"].default
    for name in ("regex", "think_answer", "math"):
        for func in resolve_rewards(chosen(f"reward={name}")["funcs"]):
            answer = in_tag("answer")(text) or "1"
            values[f"{name} {func.__name__}"] = func(prompts=[""], completions=[text], answer=[answer])[0]
    for task in ("jsonl", "hub"):
        pattern = yaml.safe_load((CONFIG_DIR / "task" / f"{task}.yaml").read_text()).get("pattern", default)
        values[task] = regex_format(pattern)(prompts=[""], completions=[text])[0]
    return values


@pytest.mark.parametrize("text", WELL_FORMED)
def test_every_config_with_the_form_pays_a_well_formed_text_in_full(text):
    assert set(paid_by_the_configs(text).values()) == {1.0}


@pytest.mark.parametrize("text", ILL_FORMED)
def test_no_config_with_the_form_pays_an_ill_formed_text_in_full(text):
    values = paid_by_the_configs(text)
    shares = {name: values.pop(name) for name in list(values) if name.endswith("think_answer")}
    assert set(values.values()) == {0.0}
    assert all(share < 1 for share in shares.values())


def test_gsm8k_takes_the_form_of_hub_and_chain_has_a_stricter_one_of_its_own():
    assert "pattern" not in yaml.safe_load((CONFIG_DIR / "task" / "gsm8k.yaml").read_text())
    chain = regex_format(CHAIN)
    assert chain.score("<think>3+5=8</think><answer>8</answer>") == 1
    assert not any(chain.score(text) for text in ILL_FORMED if text != "<think></think><answer>1</answer>")


def test_white_space_is_what_python_strips():
    space = regex.compile(f"[{SPACE}]")
    assert [c for c in range(0x110000) if (space.fullmatch(chr(c)) is not None) != chr(c).isspace()] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>9</answer></answer>", "9"),
        ("<answer>9</answer><answer></answer>", "9"),
        ("<answer>9</answer> <answer> \n</answer>", "9"),
        ("<answer>9</answer> or <answer>10", "9"),
        ("<answer><answer>9</answer></answer>", "9"),
        ("<answer>8</answer> no: <answer>9</answer>", "9"),
        ("<think>a<answer>9</answer>", "9"),  # a thought that never ends hides nothing
        ("<think>the form is <answer>1</answer></think><answer>2</answer>", "2"),
        ("<think>the form is <answer>1</answer></think> 2", None),
        ("the form is <answer>1</answer></think><answer>2</answer>", "2"),  # the prompt opened the thought
        ("the form is <answer>1</answer></think> 2", None),
        ("<think>write <answer></think>2</answer>", None),
        ("<answer>1</answer><think>or <answer>2</answer>?</think>", "1"),
        ("<think>a</think><answer>1</answer></think>", "1"),
        ("<Answer>9</Answer>", None),
        ("<answer>9</Answer></answer>", None),
        ("<answer><b>9</b></answer>", "<b>9</b>"),
        ("<answer>9", None),
        ("9</answer>", None),
    ],
)
def test_the_answer_is_the_last_whole_pair_outside_of_thoughts(text, found):
    assert in_tag("answer")(text) == found


def test_pairs_inside_of_other_tags_are_read_where_that_is_asked_for():
    text = "<think><step>1</step></think>"
    assert in_tag("step")(text) is None
    assert in_tag("step", outside=None)(text) == "1" == in_tag("step", outside="answer")(text)
    assert in_tag("think")(text) == "<step>1</step>"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("<think>a</think> so <answer>4</answer>", {"answer: order"}),
        ("Sure: <think>a</think><answer>4</answer>", {"think: order"}),
        ("<think>a</think><answer>4</answer> bye", {"answer: order"}),
        ("<think>a</think><answer>4</answer></answer>", {"answer: close", "answer: order"}),
        ("<think>a <Think></think><answer>4</answer>", {"think: open"}),
        ("<think>a</think ></think><answer>4</answer>", {"think: close", "think: filled", "answer: order"}),
        ("<think><answer></think></answer>", {"think: filled", "answer: order", "answer: filled"}),
    ],
)
def test_each_rule_that_is_broken_costs_its_share_and_text_outside_counts_as_order(text, lost):
    reward = think_answer()
    assert {rule for rule, kept in reward.parts(text).items() if not kept} == lost
    assert reward.score(text) == 1 - len(lost) / 8


def test_text_outside_of_tags_is_free_for_a_structure_of_ones_own_unless_it_says_blank():
    text = "first <a>1</a> then <b>2</b> done"
    assert tag_structure(["a", "b"], credit="all").score(text) == 1
    assert tag_structure(["a", "b"], outside="blank").parts(text) == {
        **{f"{tag}: {rule}": 1.0 for tag in "ab" for rule in ("open", "close", "filled")},
        "a: order": 0.0,
        "b: order": 0.0,
    }


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 15_000,
        "<think>a</think>" * 7_000,
        "<think>" + "<" * 100_000,
        "<" + " " * 100_000,
        ("<think" + " " * 50) * 2_000,
        "<think x" * 12_000,
        "<think>a</think>" + " " * 100_000 + "x",
        "<answer>a" * 10_000 + "</answer>" * 10_000,
        "<think>" + "\n" * 100_000 + "</think><answer>",
    ],
)
def test_a_hundred_thousand_hostile_characters_are_judged_without_backtracking(text):
    """`regex_format` gives up after its timeout: a pattern that backtracks would raise here."""
    assert regex_format("think_answer", timeout=5).score(text) == 0 == ALL.score(text)
    ALL.text_spans(text)
    in_tag("answer")(text)


@pytest.mark.parametrize("named", [True, False])
def test_flags_do_not_change_the_form(named):
    reward = regex_format("think_answer" if named else FORMS["think_answer"], flags="IGNORECASE|VERBOSE")
    assert reward.score("<Think>a</Think><Answer>1</Answer>") == (0 if named else 1)


def test_other_patterns_of_a_user_are_his_own():
    assert regex_format(r"<think>.*").score("<think><think>") == 1
    with pytest.raises(ValueError, match="any, blank"):
        tag_structure(["a"], outside="nothing")
    with pytest.raises(ValueError, match="different names"):
        tag_structure(["a", "A"])
