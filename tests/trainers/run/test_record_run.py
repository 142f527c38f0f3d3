"""Records of real (tiny) runs hold what the loss used, and keeping them changes nothing."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from trl import GRPOConfig

from compare.view.__main__ import Request, build_view
from compare.view.page import page
from configs.compose import compose_strategy
from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.run.recording import CreditRecords, token_texts
from trainers.run.records import Recorder, record_files

PROMPTS = ["ab", "cd", "ef", "gh"]
ANSWERS = [{"text": prompt.upper(), "marks": [1, 2]} for prompt in PROMPTS]


def letters_a(prompts, completions, **columns):
    return [float(text.replace("<pad>", "").count("a")) for text in map(text_of, completions)]


def short(prompts, completions, **columns):
    return [None if "h" in text else -float(len(text)) for text in map(text_of, completions)]


def text_of(completion):
    return completion if isinstance(completion, str) else completion[0]["content"]


def train(folder, every: int, credit: str = "seq_norm", tokenizer=None, data=None, callbacks=None, **options):
    """Returns the logged losses and the strategy's own weights of every optimiser step, by observer."""
    seen = []
    settings = dict(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_generations=4,
        max_completion_length=6,
        max_steps=4,
        learning_rate=1e-2,
        loss_type="dr_grpo",
        reward_weights=[1.0, 0.5],
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    trainer = CreditGRPOTrainer(
        model=tiny_model(),
        reward_funcs=[letters_a, short],
        args=GRPOConfig(**(settings | options)),
        train_dataset=Dataset.from_dict(data or {"prompt": PROMPTS * 4, "answer": ANSWERS * 4}),
        processing_class=tokenizer or tiny_tokenizer(),
        callbacks=callbacks,
        credit=compose_strategy([f"credit={credit}"]) if credit else None,
    )
    trainer.credit_observers.append(
        lambda trainer, visit: seen.append(
            (
                trainer.state.global_step + 1,
                visit.signals["token_ids_BT"].tolist(),
                (visit.advantages_BT * visit.weights_BT).tolist(),
                visit.mask_BT,
            )
        )
    )
    if every:
        recorder = Recorder(folder / "records", every=every, max_rows_per_step=8, seed=3)
        trainer.add_callback(CreditRecords(recorder, ["letters_a", "short"]))
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, seen


def rows_of(folder):
    return {int(f.stem[4:]): pq.read_table(f).to_pylist() for f in record_files(folder / "records")}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *train(folder, every=3)


def test_recording_does_not_change_the_training(recorded, tmp_path):
    _, losses, _ = recorded
    assert train(tmp_path, every=0)[0] == losses


def test_one_line_records_a_trainer_of_ones_own(recorded, tmp_path):
    """With defaults: the first step and the last, TRL's names of the rewards, and what the viewer asks for."""
    folder, losses, _ = recorded
    assert train(tmp_path, every=0, callbacks=[CreditRecords(tmp_path)])[0] == losses
    rows, others = rows_of(tmp_path), rows_of(folder)
    assert sorted(rows) == [1, 4] == sorted(others)
    assert len(rows[1]) == 16 and {"reward/letters_a", "reward/short"} <= set(rows[1][0])
    for row in others[1]:  # eight of them
        assert row in rows[1]
    assert "credit" in page(build_view(Request(tmp_path)))


def test_without_credit_there_is_nothing_to_record(tmp_path):
    with pytest.raises(ValueError, match="needs a CreditGRPOTrainer with a credit strategy"):
        train(tmp_path, every=0, credit="", callbacks=[CreditRecords(tmp_path)])


def test_record_holds_the_credit_and_weight_the_loss_used(recorded):
    folder, _, seen = recorded
    for step, rows in rows_of(folder).items():
        used = {
            (tuple(ids[: len(row["token_ids"])]), tuple(round(x, 6) for x in update[: len(row["token_ids"])]))
            for row in rows
            for at, batch, updates, _ in seen
            if at == step
            for ids, update in zip(batch, updates, strict=True)
        }
        for row in rows:
            update = tuple(round(a * w, 6) for a, w in zip(row["credit"], row["weight"], strict=True))
            assert (tuple(row["token_ids"]), update) in used


def test_whole_groups_of_due_steps_are_kept_with_their_rewards(recorded):
    folder, _, _ = recorded
    rows = rows_of(folder)
    assert list(rows) == [1, 4]
    for step in rows:
        groups = [row["group"] for row in rows[step]]
        assert len(groups) == 8 and all(groups.count(group) == 4 for group in groups)
        for row in rows[step]:
            letters = [token.strip() for token in row["tokens"]]
            assert row["reward/letters_a"] == letters.count("a")
            expected = row["reward/letters_a"] + 0.5 * (row["reward/short"] or 0.0)
            assert row["reward"] == pytest.approx(expected) and row["prompt"].replace(" ", "") in PROMPTS
            assert (row["reward/short"] is None) == ("h" in letters)
            assert row["reward_weights"] == [1.0, 0.5] and row["batch_rows"] == 16
            assert len(row["entropies"]) == len(row["policy_logps"]) == len(row["tokens"]) == sum(row["learns"])


def test_generation_batch_spread_over_two_optimiser_steps_is_one_record(tmp_path):
    _, seen = train(tmp_path, every=1, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=1)
    rows = rows_of(tmp_path)
    assert list(rows) == [2, 4]
    for step in rows:
        groups = [row["group"] for row in rows[step]]
        assert len(groups) == 8 and all(groups.count(group) == 4 for group in groups)
        tokens = sum(int(mask.sum()) for at, *_, mask in seen if at in (step - 1, step))
        assert rows[step][0]["batch_tokens"] == tokens


def test_record_holds_the_other_columns_of_the_prompts_own_row(recorded):
    for rows in rows_of(recorded[0]).values():
        for row in rows:
            assert json.loads(row["columns"]) == {"answer": ANSWERS[PROMPTS.index(row["prompt"].replace(" ", ""))]}
            assert row["messages"] is None and row["truncated"] == (row["tokens"][-1].strip() not in ("<eos>", "<pad>"))


def test_chat_prompts_and_rows_that_trl_hides_are_recorded_whole(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    chats = [[{"role": "system", "content": "h"}, {"role": "user", "content": prompt}] for prompt in PROMPTS]
    data = {"prompt": chats, "picture": [f"{number}" * 3000 for number in range(4)]}
    train(tmp_path, 1, tokenizer=tokenizer, data=data, max_steps=1, mask_truncated_completions=True)
    (rows,) = rows_of(tmp_path).values()
    hidden = [row for row in rows if row["truncated"]]
    assert 0 < len(hidden) < len(rows)
    for row in rows:
        chat = json.loads(row["messages"])
        assert chat[1]["content"] == row["prompt"].replace(" ", "")[1:] and chat[0]["role"] == "system"
        (picture,) = json.loads(row["columns"]).values()
        assert len(picture) == 2000 and picture[:-1] == str(chats.index(chat)) * 1999
        assert 0 < len(row["tokens"]) == len(row["learns"]) and any(row["learns"]) != row["truncated"]
    assert all(len(row["tokens"]) == 6 and row["entropies"] is None and not any(row["credit"]) for row in hidden)


def test_token_texts_put_together_are_the_text():
    tokenizer = tiny_tokenizer()
    ids = tokenizer("abca")["input_ids"]
    assert "".join(token_texts(tokenizer, ids)) == tokenizer.decode(ids)


class _SpaceEater:
    """Decodes like SentencePiece: the first space of a text is lost."""

    def decode(self, ids):
        return "".join([" one", " two", "!"][i] for i in ids).removeprefix(" ")


def test_token_texts_keep_the_spaces_between_words():
    assert token_texts(_SpaceEater(), [0, 1, 2, 1]) == ["one", " two", "!", " two"]
