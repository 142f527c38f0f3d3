"""A row reaches the rewards as the task has it, in training and in evaluation, whatever Arrow would make of it."""

import pickle

import pytest
from trl import GRPOConfig, GRPOTrainer

from support.tiny import tiny_model, tiny_tokenizer
from trainers.command.rows import as_dataset
from trainers.grpo import CreditGRPOTrainer

# What Arrow unifies, rounds, refuses or overflows at.
ROWS = [
    {"prompt": "ab", "answer": 4, "meta": {"a": 1, "deep": [{"x": [1]}, {"y": "z"}]}},
    {"prompt": "ba", "answer": "4", "meta": {"b": "text"}, "level": 1},
    {"prompt": "ac", "answer": [1, "one"], "meta": {}, "level": 2.5},
    {"prompt": "ca", "answer": None, "meta": None, "level": 10**30},
    {"prompt": "bc", "answer": True, "meta": {"a": {"a": {"b": None}}}, "level": None},
]
NAMES = ("answer", "meta", "level")


def test_a_row_is_given_back_as_it_is_by_every_way_of_asking():
    data = as_dataset(ROWS)
    whole = [{name: row.get(name) for name in ("prompt", *NAMES)} for row in ROWS]
    assert len(data) == 5 and list(data) == whole == [data[i] for i in range(5)] == data.__getitems__(list(range(5)))
    assert data[1:3]["answer"] == ["4", [1, "one"]] and data.select([4, 0])[1] == whole[0]
    assert [type(row["answer"]) for row in data] == [int, str, list, type(None), bool]
    assert pickle.loads(pickle.dumps(data))[3] == whole[3]
    assert as_dataset(ROWS)._fingerprint != data._fingerprint


def test_what_a_reward_does_to_its_cells_is_not_there_the_next_time():
    data = as_dataset(ROWS)
    data[0]["meta"]["deep"].append("mine")
    first, again = data.__getitems__([0, 0])
    first["meta"].clear()
    assert again["meta"] == data[0]["meta"] == {"a": 1, "deep": [{"x": [1]}, {"y": "z"}]}


@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("trainer_class", [CreditGRPOTrainer, GRPOTrainer])
def test_rewards_get_the_rows_own_cells_in_training_and_evaluation(trainer_class, unused, tmp_path):
    seen = []

    def reward(prompts, completions, answer, meta, level, **_):
        for prompt, *cells in zip(prompts, answer, meta, level, strict=True):
            row = next(row for row in ROWS if row["prompt"] == prompt)
            seen.append(prompt)
            assert [row.get(name) for name in NAMES] == cells
            assert [type(row.get(name)) for name in NAMES] == list(map(type, cells))
        return [float(len(completion)) for completion in completions]

    args = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        num_generations=2,
        max_completion_length=3,
        max_steps=3,
        report_to="none",
        remove_unused_columns=unused,
        use_cpu=True,
        save_strategy="no",
    )
    credit = {"credit": "dr_grpo"} if trainer_class is CreditGRPOTrainer else {}
    trainer = trainer_class(
        model=tiny_model(),
        reward_funcs=[reward],
        args=args,
        train_dataset=as_dataset(ROWS),
        eval_dataset=as_dataset(ROWS[:4]),
        processing_class=tiny_tokenizer(),
        **credit,
    )
    trainer.train()
    assert len(seen) == 12
    trainer.evaluate()
    assert len(seen) == 12 + 8 and set(seen[12:]) == {row["prompt"] for row in ROWS[:4]}
