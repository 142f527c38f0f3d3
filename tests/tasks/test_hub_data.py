"""A data set folder stands in for the hub: `datasets` loads both by the same call."""

import json

import pytest

from tasks.hub import hub

ROWS = [{"question": f"{n} and {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"} for n in range(12)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split, rows in (("train", ROWS[:9]), ("test", ROWS[8:])):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "data")


GSM8K = {"prompt_column": "question", "answer_marker": "####", "match": "number", "eval_split": "test"}


def test_splits_become_train_and_evaluation_without_their_common_prompt(folder):
    task = hub(folder, **GSM8K)
    assert (len(task.train), len(task.evaluation), task.name) == (8, 4, "data")
    assert task.train[3] == {"prompt": "3 and 3?", "answer": "6"}
    assert task.reward_funcs[1](completions=["<answer> 6.0 </answer>"], answer=["6"]) == [1.0]


def test_limit_takes_the_first_rows_of_each_split(folder):
    task = hub(folder, **GSM8K, limit=2)
    assert (len(task.train), len(task.evaluation)) == (2, 2)


def test_a_split_that_is_not_there_names_the_nearest(folder):
    with pytest.raises(ValueError, match="Did you mean 'test'"):
        hub(folder, **{**GSM8K, "eval_split": "tests"})


def test_a_column_that_is_not_there_names_the_nearest(folder):
    with pytest.raises(ValueError, match="Did you mean 'question'"):
        hub(folder, **{**GSM8K, "prompt_column": "questoin"})


def test_a_data_set_that_cannot_be_had_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be loaded.*hf auth login.*task=jsonl"):
        hub(str(tmp_path / "nothing here"))


def test_a_folder_with_a_broken_file_is_refused_in_a_line(folder, tmp_path):
    (tmp_path / "data" / "train.jsonl").write_text('{"question": "a", "answer": "1"}\n{"question": \n')
    with pytest.raises(ValueError, match=r"task.dataset=.*cannot be loaded"):
        hub(folder, **GSM8K)


def test_a_column_whose_name_has_a_meaning_can_be_left_out_of_data_that_nobody_can_rename(folder, tmp_path):
    for split in ("train", "test"):
        rows = [row | {"image": "x.png", "self": 1} for row in (ROWS[:9] if split == "train" else ROWS[8:])]
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"rename the column 'image'.*task.drop_columns=\[image,self\]"):
        hub(folder, **GSM8K)
    assert set(hub(folder, **GSM8K, drop_columns=["image", "self"]).train[0]) == {"prompt", "answer"}
