"""A tag that the prompt has opened counts as opened, for whatever looks for it, and for nothing else."""

import asyncio
import json

import pytest

from rewards.accuracy import exact_match
from rewards.build import resolve_rewards
from rewards.compose import gate, whole_turn
from rewards.extract import first_of, in_tag, last_boxed, whole_text
from rewards.format import regex_format
from rewards.guard import guarded
from rewards.score import main
from rewards.tags import tag_structure, think_answer
from rewards.text.opened import COLUMN
from rewards.text.spans import span_total
from support.reward_samples import chosen

WHOLE = "<think>2+2</think>\n<answer>4</answer>"
CUTS = ["<think>", "<think>2+", "<think>2+2</think>\n<answer>"]
READERS = {
    "think_answer": think_answer(),
    "all": think_answer(credit="all"),
    "form": regex_format("think_answer"),
    "pattern": regex_format(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*"),
    "escaped": regex_format(r"\<think\>.*\</think\>.*"),
    "groups": regex_format(r"<think>(?P<a>.*)</think>.*<answer>(?P<b>.*)</answer>", groups={"a": 0.5, "b": 0.5}),
}


def shapes(text):
    return text, [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", READERS)
def test_a_completion_with_what_was_opened_scores_as_the_whole_does(name, cut):
    reward = READERS[name]
    whole = reward(completions=[WHOLE])
    for rest in shapes(WHOLE.removeprefix(cut)):
        assert reward(completions=[rest], **{COLUMN: [cut]}) == whole == [1.0]
    assert reward(completions=[WHOLE.removeprefix(cut)]) != whole
    assert reward(completions=[WHOLE, WHOLE.removeprefix(cut)], **{COLUMN: ["", cut]}) == [1.0, 1.0]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text", [WHOLE, WHOLE + " more", "<think>2+2</think>\n<answer></answer>", "<think>2+2</think>\n<answer>"]
)
def test_spans_stand_in_the_completion_and_add_up_to_the_score(name, cut, text):
    reward, rest = READERS[name], text.removeprefix(cut)
    (spans,), (score,) = (
        reward.spans(completions=[rest], **{COLUMN: [cut]}),
        reward(completions=[rest], **{COLUMN: [cut]}),
    )
    assert spans is not None and span_total(spans) == pytest.approx(score)
    assert all(0 <= span.start <= span.end <= len(rest) + 1 for span in spans)


def test_an_answer_is_found_in_the_tag_that_the_prompt_opened():
    opened = {COLUMN: ["<think>a</think><answer>"], "answer": ["4"]}
    assert exact_match(in_tag("answer"))(completions=["4</answer>"], **opened) == [1.0]
    assert exact_match(first_of(in_tag("answer"), last_boxed()))(completions=["4</answer>"], **opened) == [1.0]
    gated = gate(exact_match(in_tag("answer")), think_answer(credit="all"))
    assert gated(completions=["4</answer>"], **opened) == [1.0]
    assert guarded(gated)(prompts=[""], completions=["4</answer>"], **opened) == [1.0]


def test_who_does_not_look_for_the_tag_reads_the_completion_as_it_is():
    opened = {COLUMN: ["<think>\n"], "answer": ["4"]}
    for reward in (
        exact_match(whole_text()),
        regex_format(r"\d"),
        regex_format(r"[^<]"),
        tag_structure(["b"], credit="all"),
    ):
        text = "<b>4</b>" if isinstance(reward, tag_structure) else "4"
        assert reward(completions=[text], **opened) == [1.0]


def test_what_does_not_fit_is_no_opening():
    reward = think_answer(credit="all")
    assert reward(completions=[WHOLE], **{COLUMN: None}) == [1.0]
    assert reward(completions=[WHOLE, WHOLE], **{COLUMN: [None, ""]}) == [1.0, 1.0]


def test_the_reward_math_pays_where_the_template_opens_the_thinking():
    pytest.importorskip("math_verify")
    funcs = resolve_rewards(chosen("reward=math")["funcs"], ".")
    given = {COLUMN: ["<think>\n"], "answer": ["1/2"]}
    completions = ["so</think>\n<answer>0.5</answer>"]
    assert [func(completions=completions, **given) for func in funcs] == [[1.0], [1.0]]


def starts_with_think(completions, **_):
    return [
        float(str(text if isinstance(text, str) else text[-1]["content"]).startswith("<think>")) for text in completions
    ]


async def starts_later(completions, **_):
    return starts_with_think(completions)


def test_a_plain_function_gets_completions_as_trl_has_them_or_the_whole_turn():
    for text in shapes("a</think>"):
        given = {"prompts": ["q"], "completions": [text], COLUMN: ["<think>"]}
        assert starts_with_think(**given) == [0.0]
        assert whole_turn(starts_with_think)(**given) == [1.0]
        assert asyncio.run(whole_turn(starts_later)(**given)) == [1.0]
    assert text == shapes("a</think>")[1]  # the caller's messages stay as they were
    assert whole_turn(starts_with_think).__name__ == "starts_with_think"


def test_scoring_by_hand_takes_what_was_opened(capsys, tmp_path):
    rest = WHOLE.removeprefix("<think>")
    assert main(["reward=think_answer", "--completion", rest, "--opened", "<think>", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["reward"] == 1.0
    assert main(["reward=think_answer", "--completion", rest, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["reward"] < 1.0
    (tmp_path / "rows.jsonl").write_text(json.dumps({"completion": rest, COLUMN: "<think>"}) + "\n")
    assert main(["reward=think_answer", "--file", str(tmp_path / "rows.jsonl"), "rows=1"]) == 0
    assert "think: close" in (out := capsys.readouterr().out.split("\n\n")[0]) and "  - " not in out
