"""The answer column of a table: types, markers, objects, and what can never be scored."""

import datetime
import json
import logging
from decimal import Decimal

import datasets
import pytest

from tasks.hub import hub
from tasks.jsonl import jsonl
from tasks.references import answer_after_marker, typed


def types_of(*cells):
    column = typed(cells, ["here"] * len(cells))
    datasets.Dataset.from_list([{"answer": cell} for cell in column])  # one type for Arrow
    return column


def test_a_column_of_one_type_keeps_it():
    for cells in ([145.0, 2.5], [1, 2**62], [True, False], ["a", "145.0"], [["a", "b"], ["c"]], [1, None]):
        column = types_of(*cells)
        assert column == cells and list(map(type, column)) == list(map(type, cells))


def test_a_mixture_becomes_texts_as_people_write_them():
    assert types_of(145.0, "x", True, 1e-7, 2**70) == ["145", "x", "true", "0.0000001", str(2**70)]
    assert types_of(2**64, 1) == [str(2**64), "1"]
    assert types_of(1, 2.5) == [1.0, 2.5] and types_of(2**60, 2.5) == [str(2**60), "2.5"]
    assert types_of("a", ["b", "c"], None, []) == [["a"], ["b", "c"], None, None]
    assert types_of(1, ["b"]) == [["1"], ["b"]]


def test_dates_and_decimals_become_what_arrow_and_json_know():
    assert types_of(datetime.date(2024, 1, 31)) == ["2024-01-31"]
    assert types_of(Decimal("2.00"), Decimal(3)) == [2, 3] and types_of(Decimal("0.1")) == [0.1]
    assert types_of(Decimal("0.1234567890123456789")) == ["0.1234567890123456789"]
    assert types_of(float("nan"), 1.0) == [None, 1.0]


def test_a_marker_works_in_lists_too():
    assert answer_after_marker(["x #### 1", "#### 2"], "####") == ["1", "2"] and answer_after_marker(3, "####") == 3


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(answers, name="asdiv.jsonl", **columns):
        rows = [{"prompt": f"q{n}", "answer": answer} for n, answer in enumerate(answers)]
        rows = [row | {key: values[n] for key, values in columns.items()} for n, row in enumerate(rows)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return write


def right(task, answers):
    """Scores of the answer reward on the task's training rows, in the rows' order of prompts."""
    rows = sorted(task.train, key=lambda row: int(row["prompt"][1:]))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return task.reward_funcs[-1](completions=[f"<answer>{answer}</answer>" for answer in answers], **columns)


def test_numbers_of_a_file_are_met_by_their_value_under_the_default_match(table):
    task = jsonl(table([145.0, 2, 0.5]), eval_share=0.0)
    assert right(task, ["145", "2.0", ".5"]) == [1.0] * 3 and right(task, ["146", "3", "5"]) == [0.0] * 3
    task = jsonl(table([2**62 + 1, 2**70]), eval_share=0.0)
    assert right(task, [2**62 + 1, 2**70]) == [1.0] * 2 and right(task, [2**62, 2**70 + 1]) == [0.0] * 2


def test_a_csv_that_pandas_wrote_is_met_too(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,answer\nq0,145.0\nq1,True\nq2,7.0\n")
    assert right(jsonl(str(tmp_path / "a.csv"), eval_share=0.0), ["145", "true", "7.0"]) == [1.0] * 3


MESSAGE = r'asdiv.jsonl: match=number cannot score 2 of 4 references, e.g. row 3 "9 \(apples\)".*task.units=both'


def test_references_that_a_match_can_never_score_are_counted(table, caplog):
    jsonl(table(["1", 2.5, "9 (apples)", "3 (pears)"]), match="number", eval_share=0.0)
    with caplog.at_level(logging.WARNING):
        assert __import__("re").search(MESSAGE, caplog.text)
    task = jsonl("asdiv.jsonl", match="number", units="both", eval_share=0.0)
    assert right(task, [1, 2.5, 9, "3 pears"]) == [1.0] * 4


def test_a_file_none_of_whose_references_can_be_scored_is_refused(table):
    with pytest.raises(ValueError, match=r'match=number cannot score 2,000 of 2,000 references, e.g. row 1 "no"'):
        jsonl(table(["no"] * 2000), match="number")
    with pytest.raises(ValueError, match="match=choice cannot score 3 of 3"):
        jsonl(table(["Paris"] * 3), match="choice")
    with pytest.raises(ValueError, match=r"no row has anything.*task.answer_column=null"):
        jsonl(table([None] * 3))
    with pytest.raises(ValueError, match=r"eval.jsonl|\(evaluation\): match=number"):
        jsonl(table([1] * 3), eval_path=table(["x"], "eval.jsonl"), match="number")


def test_a_data_set_of_the_hub_is_counted_alike(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    rows = [{"question": f"q{n}", "answer": f"so\n#### {value}"} for n, value in enumerate(["1,234", "7", "x"])]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hub(str(tmp_path / "data"), prompt_column="question", answer_marker="####", match="number", eval_share=0.0)
    assert 'match=number cannot score 1 of 3 references, e.g. row 3 "x"' in caplog.text


def test_answers_without_the_marker_are_counted(table, caplog):
    jsonl(table(["a #### 1", "2"]), answer_marker="####", eval_share=0.0)
    assert "1 of 2 answers have no '####' (task.answer_marker), e.g. row 2 '2'" in caplog.text
    with pytest.raises(ValueError, match=r"2 of 2 answers have no '###!'.*answer_marker=null"):
        jsonl("asdiv.jsonl", answer_marker="###!")


def test_an_answer_inside_of_an_object_is_named_with_a_point(table):
    name = table([{"value": "Paris", "aliases": ["Paris", "City of Light"]}, {"value": "Rome", "aliases": ["Roma"]}])
    with pytest.raises(ValueError, match=r"line 1: the answer is an object.*task.answer_column=answer.value"):
        jsonl(name)
    task = jsonl(name, answer_column="answer.aliases", eval_share=0.0)
    assert right(task, ["City of Light", "Roma"]) == [1.0, 1.0] and right(task, ["Rome", "Rome"]) == [0.0, 0.0]


def test_choices_by_number_are_counted_from_where_the_data_say(table, caplog):
    options = [["one", "two", "three", "four"]] * 4
    for answers, base in (([0, 1, 2, 3], 0), (["1", "2", "3", "4"], 1), ([1, 2, 3, 4], 1)):
        task = jsonl(table(answers, choices=options), match="choice", eval_share=0.0)
        assert right(task, "ABCD") == right(task, options[0]) == [1.0] * 4 and right(task, "BCDA") == [0.0] * 4
        assert f"are taken to count the choices from {base}" in caplog.text
    with pytest.raises(ValueError, match=r"count from 0 or from 1. Say so: task.choice_base=0 or task.choice_base=1"):
        jsonl(table([1, 2, 3]), match="choice")
    assert right(jsonl(table([1, 2, 3]), match="choice", choice_base=1, eval_share=0.0), "ABC") == [1.0] * 3


def test_letters_and_digits_in_one_column_are_read_with_their_labels(table):
    cells = [{"text": ["a dog", "a cat"], "label": labels} for labels in (["A", "B"], ["1", "2"])]
    task = jsonl(table(["B", "2"], choices=cells), match="choice", eval_share=0.0)
    assert right(task, "BB") == right(task, ["a cat", "a cat"]) == right(task, "b2") == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalise": "word"}, "Did you mean 'words'"),
        ({"percent": "fractions"}, "Did you mean 'fraction'"),
        ({"units": "all"}, "task.units=all: choose one of answer, both, none"),
        (
            {"match": "choice", "options_column": "choice"},
            "no column 'choice' .task.options_column.. Did you mean 'choices'",
        ),
    ],
)
def test_a_setting_that_is_none_is_named(table, settings, message):
    with pytest.raises(ValueError, match=message):
        jsonl(table(["A"], choices=[["x"]]), **settings)
