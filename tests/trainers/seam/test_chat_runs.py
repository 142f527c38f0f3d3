"""Chats through the real verbs: what the template opens, answers that are begun, tools, and arguments of the template."""

import json

import pytest

from configs.compose import ConfigError, compose_config
from rewards.compose import whole_turn
from support.models_saved import save_model, train_step
from support.reward_samples import chosen
from support.templates import LLAMA3, QWEN3, QWEN3_THINKING, R1_DISTILL, speaking
from tasks.jsonl import jsonl
from trainers.command.build import template_of
from trainers.command.reward_tags import check_special_tokens, opening_notes
from trainers.command.rows import as_dataset, as_table
from trainers.command.texts import as_pair
from trainers.grpo import CreditGRPOTrainer
from trainers.model.prompts import chat_text
from trainers.run import grpo as run
from trainers.run import likelihood as run_sft
from trainers.run.sample import encoded
from trainers.sft import CreditSFTTrainer

ASKED = [{"role": "user", "content": "2+2?"}]
BEGUN = [*ASKED, {"role": "assistant", "content": "It is"}]


def called(**arguments):
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    return [
        {"role": "user", "content": "And there?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "tool_call_id": "c1", "content": "rain"},
    ]


PROMPTS = [ASKED, BEGUN, called(city="Paris"), called(place={"x": 1, "y": 2})]
HEARD = """import json
from pathlib import Path
def heard(completions, prompts, opened_by_prompt=None, **_):
    with Path(__file__).with_name("heard.jsonl").open("a") as file:
        for prompt, opened in zip(prompts, opened_by_prompt):
            file.write(json.dumps([prompt, opened]) + "\\n")
    return [float(len(str(text)) % 3) for text in completions]
"""


@pytest.fixture(autouse=True)
def _schemas():
    run.register_schema()
    run_sft.register_schema()


def table(folder):
    rows = [{"prompt": prompt, "answer": "4", "completion": " four."} for prompt in PROMPTS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "heard.py").write_text(HEARD)
    return folder / "rows.jsonl"


@pytest.mark.parametrize(
    ("template", "opened"), [(QWEN3_THINKING, "<think>\n"), (QWEN3, "")], ids=["thinking", "hybrid"]
)
def test_a_run_asks_with_the_chats_of_the_table_and_rewards_hear_what_is_opened(
    template, opened, tmp_path, monkeypatch, capsys
):
    tokenizer = speaking(template)
    start, asked = save_model(tmp_path / "start", tokenizer), []
    plain = CreditGRPOTrainer._tokenize_prompts

    def tokenize(self, prompts):
        found = plain(self, prompts)
        asked.extend(tokenizer.decode(ids) for ids in found[0])
        return found

    monkeypatch.setattr(CreditGRPOTrainer, "_tokenize_prompts", tokenize)
    more = [f"reward.funcs=[{tmp_path / 'heard.py'}:heard]", "trainer.chat_template_kwargs.enable_thinking=false"]
    train_step("grpo-full", start, table(tmp_path), tmp_path / "run", *more)
    assert set(asked) == {chat_text(prompt, tokenizer, enable_thinking=False) for prompt in PROMPTS}
    heard = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text().splitlines()]
    assert {json.dumps(prompt) for prompt, _ in heard} == {
        json.dumps(prompt) for prompt in PROMPTS
    }  # no key more or less
    assert all(found == ("" if prompt == BEGUN else opened) for prompt, found in heard)
    assert ("opened   3 of 4 prompts" in capsys.readouterr().out) == bool(opened)


def test_likelihood_training_learns_the_rest_of_an_answer_that_is_begun(tmp_path, monkeypatch):
    tokenizer = speaking(LLAMA3)
    start, seen = save_model(tmp_path / "start", tokenizer), []
    plain = CreditSFTTrainer.train
    monkeypatch.setattr(
        CreditSFTTrainer, "train", lambda self, *a, **k: (seen.append(self.train_dataset), plain(self, *a, **k))
    )
    train_step("sft-full", start, table(tmp_path), tmp_path / "run", "eval_examples=0")
    learned = {}
    for ids, labels in zip(seen[0]["input_ids"], seen[0]["labels"], strict=True):
        first = next(place for place, label in enumerate(labels) if label != -100)
        learned[tokenizer.decode(ids[:first])] = tokenizer.decode(ids[first:])
    assert learned == {
        chat_text(prompt, tokenizer): (" four." if prompt == BEGUN else "four.") + "<|eot_id|>" for prompt in PROMPTS
    }


def test_arguments_of_the_template_reach_likelihood_training_and_sampling():
    tokenizer = speaking(QWEN3)
    config = compose_config("sample", ["chat_template_kwargs.enable_thinking=false"])
    assert template_of(config) == {"enable_thinking": False}
    ids = encoded(ASKED, tokenizer, template_of(config))
    assert tokenizer.decode(ids) == chat_text(ASKED, tokenizer, enable_thinking=False) != chat_text(ASKED, tokenizer)
    for verb in ("train_sft", "train_lhts"):
        given = template_of(compose_config(verb, ["chat_template_kwargs={enable_thinking: false}"]))
        row = as_pair({"prompt": ASKED, "completion": "4"}, given)
        assert row["chat_template_kwargs"] == {"enable_thinking": False}
        assert "chat_template_kwargs" not in as_pair({"prompt": ASKED, "completion": "4"}, {})
    with pytest.raises(ConfigError, match=r"chat_template_kwargs\.enable_thinking=false"):
        template_of(compose_config("sample", ["chat_template_kwargs=no"]))


def test_messages_keep_what_templates_read(tmp_path):
    task = jsonl(str(table(tmp_path)), eval_share=0, completion_column="completion")
    assert [row["prompt"] for row in as_dataset(task.train)] == PROMPTS
    assert [row["prompt"] for row in as_table(task.train)] == PROMPTS
    text = chat_text(task.train[2]["prompt"], speaking(QWEN3))
    assert '{"name": "weather", "arguments": {"city": "Paris"}}' in text and "rain" in text
    assert "null" not in chat_text(as_dataset(task.train)[2]["prompt"], speaking(LLAMA3))


def test_a_message_that_only_calls_a_tool_needs_no_content(tmp_path):
    call = called(city="Paris")
    del call[1]["content"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": call, "answer": "4"}) + "\n")
    task = jsonl(str(tmp_path / "rows.jsonl"), eval_share=0)
    assert task.train[0]["prompt"] == called(city="Paris")


def rewards_of(name, *more):
    from rewards.build import guard_rewards, resolve_rewards

    return guard_rewards(resolve_rewards(chosen(f"reward={name}", *more)["funcs"], "."), {})


THINKS = ["<think>", "</think>"]


@pytest.mark.parametrize(
    ("name", "more"),
    [("think_answer", []), ("math", []), ("regex", []), ("regex", ["reward.funcs.0.pattern='\\<think\\>.*'"])],
)
def test_tags_that_decoding_removes_are_refused(name, more):
    pytest.importorskip("math_verify")
    for special in ("<think>", "</think>"):
        if more and special == "</think>":
            continue
        with pytest.raises(
            ValueError, match=rf"looks for {special}, which is a special token of mine.*tokenizer\.json"
        ):
            check_special_tokens(rewards_of(name, *more), speaking(QWEN3, special), "mine")
    check_special_tokens(rewards_of(name, *more), speaking(QWEN3), "mine")


PATTERN = r"^<think>.*</think>"


def reads_by_constant(completions, **_):
    import re

    return [float(bool(re.match("<think>", text))) for text in completions]


def reads_by_global(completions, **_):
    import re

    return [float(bool(re.match(PATTERN, text))) for text in completions]


def tidies(completions, **_):
    """Nothing about <think> here."""
    return [float(len(text.replace("<eos>", ""))) for text in completions]


@pytest.mark.parametrize("reward", [reads_by_constant, reads_by_global])
def test_tags_in_the_code_of_a_function_of_ones_own_count_too(reward):
    from rewards.guard import guarded

    with pytest.raises(ValueError, match=r"looks for </?think>"):
        check_special_tokens([guarded(reward)], speaking(QWEN3, *THINKS), "mine")
    check_special_tokens([guarded(tidies)], speaking(QWEN3, *THINKS), "mine")
    notes = opening_notes([guarded(reward), tidies], speaking(R1_DISTILL), [ASKED])
    assert "1 of 1 prompts" in notes[0] and f"{reward.__name__} looks for <think>" in notes[1] and len(notes) == 2


def test_trls_own_format_reward_is_told_how_to_see_the_tag():
    from trl.rewards import think_format_reward

    tokenizer = speaking(R1_DISTILL)
    assert "think_format_reward looks for <think>" in opening_notes([think_format_reward], tokenizer, [ASKED])[1]
    whole = whole_turn("trl.rewards.think_format_reward")
    assert len(opening_notes([whole], tokenizer, [ASKED])) == 1
    completions = [[{"role": "assistant", "content": "a</think>4"}]]
    assert whole(completions=completions, opened_by_prompt=["<think>\n"]) == [1.0]


def test_the_refusal_comes_before_a_folder_is_made_and_its_remedy_helps(tmp_path):
    start, rows = save_model(tmp_path / "start", speaking(QWEN3, *THINKS)), table(tmp_path)
    with pytest.raises(ValueError, match="looks for </think>"):
        train_step("grpo-full", start, rows, tmp_path / "run", "reward.funcs=[{_target_: rewards.tags.think_answer}]")
    assert not (tmp_path / "run").exists()
    words = json.loads((start / "tokenizer.json").read_text())
    for token in words["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in THINKS
    (start / "tokenizer.json").write_text(json.dumps(words))
    settings = json.loads((start / "tokenizer_config.json").read_text())
    for key, value in settings.items():
        if isinstance(value, list):
            settings[key] = [token for token in value if token not in THINKS]
    (start / "tokenizer_config.json").write_text(json.dumps(settings))
    train_step("grpo-full", start, rows, tmp_path / "run", "reward.funcs=[{_target_: rewards.tags.think_answer}]")
    assert (tmp_path / "run/model").exists()
