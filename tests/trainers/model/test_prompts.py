"""Chats as text: what a template leaves open, and answers that a prompt has begun."""

import pytest

from support.templates import GEMMA, KEEPS_THINKING, LLAMA3, PLAIN_TAGS, QWEN3, QWEN3_THINKING, R1_DISTILL, speaking
from trainers.model.embedded import CHAT_TEMPLATE
from trainers.model.prompts import Openings, chat_text, continuing, opened_by

ASKED = [{"role": "user", "content": "2+2?"}]
LONG = [{"role": "system", "content": "Think."}, *ASKED, {"role": "assistant", "content": "4"}, *ASKED]


@pytest.mark.parametrize("chat", [ASKED, LONG], ids=["one message", "several"])
@pytest.mark.parametrize(
    ("template", "arguments", "opened"),
    [
        (QWEN3, {}, ""),
        (QWEN3, {"enable_thinking": False}, ""),
        (QWEN3_THINKING, {}, "<think>\n"),
        (R1_DISTILL, {}, "<think>\n"),
        (KEEPS_THINKING, {}, "<think>"),
        (LLAMA3, {}, ""),
        (GEMMA, {}, ""),
        (PLAIN_TAGS, {}, ""),
        (CHAT_TEMPLATE, {}, ""),
    ],
)
def test_what_a_template_opens_is_what_it_leaves_open_in_an_answer(template, arguments, opened, chat):
    assert opened_by(chat, speaking(template), **arguments) == opened


@pytest.mark.parametrize(
    ("prefill", "opened"),
    [
        ("<think>", "<think>"),
        ("<think>\nFirst,", "<think>\nFirst,"),
        ("<think>a</think>\n<answer>", "<think>a</think>\n<answer>"),
        ("<think>a</think>", ""),
        ("Sure. The answer is", ""),
        ("Take a List<int>", ""),
    ],
)
@pytest.mark.parametrize("template", [LLAMA3, GEMMA, PLAIN_TAGS])
def test_what_a_prefill_opens_is_the_answer_so_far(template, prefill, opened):
    chat = [*ASKED, {"role": "assistant", "content": prefill}]
    assert opened_by(chat, speaking(template)) == opened


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("2+2?\n<think>", "<think>"),
        ("User: 2+2?\nAssistant: <think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<｜Assistant｜><think>\n".replace("｜", "|"), "<think>\n"),
        ("2+2?", ""),
        ("Write it as <answer>4</answer>", ""),
        ("Is it a < b or b > a", ""),
        ("Answer in a tag <answer>", ""),
    ],
)
def test_a_plain_prompt_opens_the_tag_that_it_ends_with(prompt, opened):
    assert opened_by(prompt, speaking(QWEN3)) == opened


def test_openings_are_asked_once_for_each_prompt_and_never_fail():
    tokenizer = speaking(QWEN3_THINKING)
    openings = Openings(tokenizer)
    assert [openings(ASKED), openings("a\n<think>"), openings(ASKED)] == ["<think>\n", "<think>", "<think>\n"]
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert openings(ASKED) == "<think>\n" and openings(LONG) == ""
    tokenizer.chat_template = None
    assert Openings(tokenizer)(ASKED) == ""


@pytest.mark.parametrize("template", [LLAMA3, GEMMA, QWEN3, CHAT_TEMPLATE])
def test_a_prefill_is_continued_and_not_closed(template):
    tokenizer = speaking(template)
    text = chat_text([*ASKED, {"role": "assistant", "content": "It is"}], tokenizer)
    assert text.endswith("It is") and text.count("assistant") + text.count("model") == 1


def test_a_batch_of_chats_is_rendered_each_by_its_own_end():
    tokenizer = speaking(LLAMA3)
    begun = [*ASKED, {"role": "assistant", "content": "It is"}]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    with continuing(tokenizer):
        ids = tokenizer.apply_chat_template(conversation=[ASKED, begun], **options)["input_ids"]
        alone = tokenizer.apply_chat_template(begun, **options)["input_ids"]
    assert [tokenizer.decode(row) for row in ids] == [chat_text(ASKED, tokenizer), chat_text(begun, tokenizer)]
    assert ids[1] == alone and "apply_chat_template" not in vars(tokenizer)


def test_the_answer_to_a_prefill_is_put_behind_it():
    tokenizer = speaking(LLAMA3)
    begun = [*ASKED, {"role": "assistant", "content": "It is"}]
    with continuing(tokenizer):
        prompt = tokenizer.apply_chat_template(begun, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*begun, {"role": "assistant", "content": " 4."}], tokenize=False)
    assert whole == prompt + " 4.<|eot_id|>"
