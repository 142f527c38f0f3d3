"""Prompts that have no room in a model's positions are said at load, with their row; whole conversations get their mask."""

import json

import pytest

from support.models_saved import save_model
from tasks.jsonl import jsonl
from trainers.model.embedded import byte_tokenizer
from trainers.model.lengths import check_room, lengths_of, positions_of
from trainers.model.pretrained import hf
from trainers.model.turns import is_marked, masked_rows

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ m['content'] }}<eos>"
    "{% endgeneration %}{{ '\\n' }}{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    {"role": "user", "content": "eins?"},
    {"role": "assistant", "content": "zwölf"},
    {"role": "user", "content": "sicher?"},
    {"role": "assistant", "content": "ja"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("long") / "model", byte_tokenizer())


def table(tmp_path, prompts, **settings):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt, "answer": 1}) + "\n" for prompt in prompts))
    return jsonl(str(path), eval_share=0, **settings)


def with_room(task, room):
    task.room = room
    return task


def test_a_prompt_too_long_for_the_positions_is_named_by_its_row_before_the_weights_are_read(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("weights were read")
    )
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    prompts = ["a", "b" * (positions + 1), "c", "d" * (positions - 5)]
    with pytest.raises(
        ValueError, match=rf"data.jsonl, line 2: the prompt has {positions + 1:,} tokens;.* 1 of 4 prompts"
    ):
        hf(table(tmp_path, prompts), name=str(folder))
    with pytest.raises(
        ValueError, match=rf"max_completion_length=6 behind it takes .* 2 of 4 .*max_prompt_chars={positions - 6}"
    ):
        hf(with_room(table(tmp_path, prompts), 6), name=str(folder))
    with pytest.raises(ValueError, match=r"max_completion_length=5 makes room for all"):
        hf(with_room(table(tmp_path, prompts[::2] + prompts[3:]), 6), name=str(folder))


def test_the_remedy_leaves_the_long_rows_out_and_the_exact_length_fits(folder, tmp_path):
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    task = table(tmp_path, ["a", "b" * (positions - 6)], max_prompt_chars=positions - 6)
    hf(with_room(task, 6), name=str(folder))
    assert len(table(tmp_path, ["a", "b" * 100], max_prompt_chars=99).train) == 1


def test_a_configuration_that_names_no_positions_refuses_nothing(tmp_path):
    class Bare:
        pass

    assert positions_of(Bare()) is None
    task = table(tmp_path, ["a" * 5000])
    check_room(with_room(task, 10**6), lengths_of(task, byte_tokenizer()), Bare(), "it")


def learnt(tokenizer, row):
    return tokenizer.decode([token for token, bit in zip(row["input_ids"], row["assistant_masks"], strict=True) if bit])


def test_without_marks_in_the_template_the_mask_covers_the_answers_and_their_ends():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    assert not is_marked(tokenizer)
    (row,) = masked_rows([{"messages": TALK}], tokenizer)
    assert tokenizer.decode(row["input_ids"]) == tokenizer.apply_chat_template(TALK, tokenize=False)
    assert learnt(tokenizer, row) == "zwölf<eos>ja<eos>"


def test_the_mask_is_the_one_that_a_marked_template_gives():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    (ours,) = masked_rows([{"messages": TALK}], tokenizer)
    tokenizer.chat_template = MARKED
    assert is_marked(tokenizer)
    theirs = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    assert (ours["input_ids"], ours["assistant_masks"]) == (theirs["input_ids"], theirs["assistant_masks"])


def test_a_template_that_writes_answers_otherwise_later_on_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] if loop.last or m['role'] == 'user' else '...' }}\n{% endfor %}"
    )
    with pytest.raises(ValueError, match=r"writes an answer otherwise.*trainer.assistant_only_loss=false"):
        masked_rows([{"messages": TALK}], tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        masked_rows([{"messages": TALK}], tokenizer)
