"""Where rows come from: files, folders as the hub lays them out, folders that `datasets` saved, patterns, lists, hub ids."""

import json

import pytest
from datasets import Dataset, DatasetDict

from tasks.jsonl import jsonl
from tasks.sources import name_of

ROWS = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(20)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """data/train-*.jsonl and data/test.parquet, a README and a hidden folder, as a snapshot of the hub has them."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mine"
    (root / "data").mkdir(parents=True)
    (root / ".cache").mkdir()
    (root / "README.md").write_text("---\n---\n")
    (root / ".cache" / "junk.json").write_text("broken")
    (root / "data" / "train-00000-of-00002.jsonl").write_text(lines(ROWS[:8]))
    (root / "data" / "train-00001-of-00002.jsonl").write_text(lines(ROWS[8:15]))
    Dataset.from_list(ROWS[15:]).to_parquet(root / "data" / "test-00000-of-00001.parquet")
    return root


def prompts(rows):
    return [row["prompt"] for row in rows]


def test_a_folder_is_read_by_the_splits_in_its_file_names(folder, caplog):
    task = jsonl("mine", eval_split="test")
    assert prompts(task.train) == prompts(ROWS[:15]) and prompts(task.evaluation) == prompts(ROWS[15:])
    assert task.name == "mine" and not caplog.text
    assert len(jsonl("mine").train) == 13
    assert "has the split test too, which is not used; task.eval_split=test" in caplog.text


def test_a_line_of_a_file_in_a_folder_is_named(folder):
    (folder / "data" / "train-00001-of-00002.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(ValueError, match=r"train-00001-of-00002.jsonl, line 2: not JSON"):
        jsonl("mine")


@pytest.mark.parametrize("parts", [("eval",), ("validation",)])
def test_evaluation_rows_are_found_in_a_folder_of_their_own(folder, parts):
    (folder.parent / "held").mkdir()
    (folder.parent / "held" / f"{parts[0]}.jsonl").write_text(lines(ROWS[:3]))
    task = jsonl("mine", eval_path="held")
    assert len(task.evaluation) == 3 and not set(prompts(task.train)) & set(prompts(ROWS[:3]))


def test_what_datasets_saved_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Dataset.from_list(ROWS).save_to_disk("one")
    DatasetDict({"train": Dataset.from_list(ROWS[:15]), "test": Dataset.from_list(ROWS[15:])}).save_to_disk("two")
    assert len(jsonl("one", eval_share=0).train) == 20
    task = jsonl("two", eval_split="test", limit=10)
    assert (len(task.train), len(task.evaluation)) == (10, 5)
    (tmp_path / "two" / "train" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"task.path=two cannot be loaded"):
        jsonl("two")


def test_a_list_and_a_pattern_are_put_together_and_a_prompt_of_two_files_stays_on_one_side(folder):
    (folder.parent / "more.json").write_text(json.dumps(ROWS))
    paths = ["more.json", "mine/data/train-*.jsonl"]
    task = jsonl(paths, eval_share=0.2)
    assert len(task.train) + len(task.evaluation) < 35  # a held-out prompt of both files is held out once
    assert not set(prompts(task.train)) & set(prompts(task.evaluation))
    assert task.name == "more" and len(set(prompts([*task.train, *task.evaluation]))) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "mien"}, r"cannot be loaded.*no file or folder mien.*Did you mean 'mine'"),
        ({"path": []}, r"task.path=\[\] names no file"),
        ({"path": ["mine", 3]}, r"task.path\[1\]=3"),
        ({"path": ["mine", "nope.jsonl"]}, r"task.path\[1\]: no file nope.jsonl"),
        ({"path": "mine/*.jsonl"}, r"no file of the kinds"),
        ({"path": "mine", "split": "tran"}, r"mine has no split 'tran', only test, train. Did you mean 'train'"),
        ({"path": "mine", "eval_split": "validation"}, r"has no split 'validation'"),
        ({"path": "mine", "eval_split": "test", "eval_path": "mine"}, "give one"),
        ({"path": "mine", "limit": 0}, "limit of 0"),
    ],
)
def test_what_cannot_be_found_is_named(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        jsonl(**settings)


def test_a_hub_id_goes_to_the_hub(folder, monkeypatch):
    def load_dataset(name, config, revision=None):
        assert (name, config, revision) == ("someone/sums", "main", "abc")
        return DatasetDict({"train": Dataset.from_list(ROWS[:15]), "test": Dataset.from_list(ROWS[15:])})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = jsonl("someone/sums", config="main", revision="abc", eval_split="test")
    assert (task.name, len(task.train), len(task.evaluation)) == ("sums", 15, 5)
    assert task.places[ROWS[0]["prompt"]] == "someone/sums (train), row 1"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.jsonl.gz", "b"),
        ("openai/gsm8k", "gsm8k"),
        ("data/", "data"),
        (["x.csv", "y.csv"], "x"),
        ("d/*.jsonl", "data"),
    ],
)
def test_a_task_is_named_by_its_path(path, name):
    assert name_of(path) == name
