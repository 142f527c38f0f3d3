"""A task from a user's file: every kind of file, every way to get it wrong."""

import csv
import json

import pytest

from tasks.jsonl import jsonl

ROWS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n), "level": n % 3} for n in range(20)]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes rows to a file of the wanted kind in the current folder; returns its name."""
    monkeypatch.chdir(tmp_path)

    def writer(rows, name="data.jsonl"):
        kind = name.rpartition(".")[2]
        if kind == "jsonl":
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif kind == "json":
            (tmp_path / name).write_text(json.dumps(rows))
        elif kind == "csv":
            with (tmp_path / name).open("w", newline="") as file:
                sheet = csv.DictWriter(file, rows[0])
                sheet.writeheader()
                sheet.writerows(rows)
        else:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        return name

    return writer


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_prompts_and_answers(write, kind):
    task = jsonl(write(ROWS, f"data.{kind}"))
    rows = sorted(task.train + task.evaluation, key=lambda row: int(row["answer"]))
    assert [(row["prompt"], row["answer"]) for row in rows] == [(row["prompt"], row["answer"]) for row in ROWS]
    assert [int(row["level"]) for row in rows] == [row["level"] for row in ROWS]
    assert len(task.evaluation) == 2 and task.name == "data"


def test_the_default_rewards_want_tags_and_the_answer_between_them(write):
    task = jsonl(write(ROWS))
    texts = ["<think>4 and 4</think> <answer> 8 </answer>", "<answer>8</answer>", "<think>x</think><answer>9</answer>"]
    formatted, right = (func(completions=texts, answer=["8"] * 3) for func in task.reward_funcs)
    assert (formatted, right) == ([1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    assert [func.__name__ for func in task.reward_funcs] == ["format", "answer"]
    assert task.reward_weights == [0.2, 0.8]


@pytest.mark.parametrize(
    ("match", "extract", "text", "answer"),
    [
        ("exact", "boxed", r"so \boxed{x+1}", "x+1"),
        ("number", "marker", "steps\n#### 1,200", "1200.0"),
        ("number", "number", "3 or 4", "4"),
        ("choice", "text", "(B)", "B"),
        ("exact", "text", " Paris ", "Paris"),
        ("number", "any", "it is 12", "12"),
    ],
)
def test_match_and_extract_choose_how_an_answer_is_judged(write, match, extract, text, answer):
    task = jsonl(write([*ROWS]), match=match, extract=extract, pattern=None)
    (right,) = task.reward_funcs
    assert task.reward_weights == [1.0]
    assert right(completions=[text, "nothing here, sorry"], answer=[answer, answer]) == [1.0, 0.0]


def test_answers_of_mixed_types_become_lists_of_texts_and_a_missing_one_cannot_be_scored(write):
    rows = [
        {"prompt": "a", "answer": 4},
        {"prompt": "b", "answer": "4"},
        {"prompt": "c"},
        {"prompt": "d", "answer": [1]},
    ]
    task = jsonl(write(rows), eval_share=0.0)
    assert [row["answer"] for row in task.train] == [["4"], ["4"], None, ["1"]]
    text = "<answer>4</answer>"
    assert task.reward_funcs[1](completions=[text] * 3, answer=[["4"], "4", None]) == [1.0, 1.0, None]


def test_answer_marker_keeps_what_follows_it(write):
    task = jsonl(write([{"prompt": "q", "answer": "2+2=4\n#### 4"}]), answer_marker="####", eval_share=0.0)
    assert task.train[0]["answer"] == "4"


def test_the_held_out_prompts_do_not_move_when_rows_are_shuffled_and_never_split_a_repeated_prompt(write):
    repeated = ROWS + ROWS[:10]
    first = jsonl(write(repeated), eval_share=0.3)
    second = jsonl(write(repeated[::-1]), eval_share=0.3)
    held_out = {row["prompt"] for row in first.evaluation}
    assert held_out == {row["prompt"] for row in second.evaluation}
    assert len(held_out) == len(first.evaluation) == 6
    assert not held_out & {row["prompt"] for row in first.train}


def test_prompts_of_the_evaluation_file_are_dropped_from_training_with_a_warning(write, caplog):
    task = jsonl(write(ROWS), eval_path=write(ROWS[:5], "eval.jsonl"))
    assert len(task.train) == 15 and len(task.evaluation) == 5
    assert "5 rows dropped" in caplog.text


def test_a_system_prompt_makes_chat_prompts(write):
    task = jsonl(write(ROWS), system_prompt="Think first.")
    assert task.train[0]["prompt"][0] == {"role": "system", "content": "Think first."}
    assert task.train[0]["prompt"][1]["role"] == "user"


def test_chat_rows_stay_chat_rows_and_keep_their_own_system_message(write):
    chat = [{"role": "system", "content": "s", "name": "x"}, {"role": "user", "content": "hi"}]
    task = jsonl(write([{"prompt": chat, "answer": "1"}]), eval_share=0.0, system_prompt="other")
    assert task.train[0]["prompt"] == chat  # a template may read `name`


def test_completions_become_demonstrations_of_training_prompts_only(write):
    rows = [row | {"text": f"<answer>{row['answer']}</answer>"} for row in ROWS]
    task = jsonl(write(rows), completion_column="text")
    demonstrations = task.demonstrations(50, 0)
    assert len(demonstrations) == 50 and demonstrations == task.demonstrations(50, 0) != task.demonstrations(50, 1)
    assert {row["prompt"] for row in demonstrations} == {row["prompt"] for row in task.train}
    assert all("completion" not in row and "text" not in row for row in task.train)
    assert jsonl(write(ROWS)).demonstrations is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "dat.jsonl"}, "Did you mean 'data.jsonl'"),
        ({"path": "nowhere/data.jsonl"}, "no file"),
        ({"path": "empty"}, "is a folder without a file"),
        ({"path": "data.xlsx"}, "Did you mean 'data.jsonl'"),
        ({"prompt_column": "promt"}, "Did you mean 'prompt'"),
        ({"answer_column": "answr"}, "Did you mean 'answer'.*answer_column=null"),
        ({"completion_column": "text"}, "no column 'text'"),
        ({"match": "numbers"}, "Did you mean 'number'"),
        ({"extract": "tags"}, "Did you mean 'tag'"),
        ({"eval_share": 1.0}, "eval_share"),
        ({"format_weight": 2.0}, "format_weight"),
        ({"eval_path": "data.jsonl"}, "no prompts are left"),
        ({"system_prompt": "s", "chat": False}, "needs chat prompts"),
        ({"pattern": "("}, "does not compile"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(write, tmp_path, settings, message):
    write(ROWS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        jsonl(**{"path": "data.jsonl", **settings})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", '{"prompt": "a", "answer": 1}\n\n{"prompt": \n', "line 3: not JSON"),
        ("a.jsonl", '{"prompt": "a", "answer": 1}\n[1]\n', "line 2: a row must be an object"),
        (
            "a.jsonl",
            '{"prompt": "a", "answer": 1}\n{"prompt": "  ", "answer": 1}\n',
            "line 2, column .prompt.: a prompt must be",
        ),
        (
            "a.jsonl",
            '{"prompt": [{"role": "user"}], "answer": 1}\n',
            'line 1, column .prompt.: a chat message needs "role"',
        ),
        ("a.jsonl", '{"prompt": "a", "answer": 1, "completions": 2}\n', "rename the column 'completions'"),
        ("a.json", "[]", "has no rows"),
        ("a.json", '"prompt"', "must hold a list"),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}', "line 2: not JSON.*name the file .jsonl"),
        ("a.csv", "prompt,answer\n", "has no rows"),
        ("a.csv", "prompt;answer\nx;1\n", "The cells are separated by ';'"),
        ("a.csv", "prompt,answer\nx,1\ny\n", "line 3: not as many cells"),
        ("a.parquet", "not parquet", "not a Parquet file"),
        ("a.txt", "hello", "can be read, not .txt"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        jsonl(str(tmp_path / name))


def test_a_file_that_is_no_text_is_said_so(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        jsonl(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            (1, "hard"),
            r"data.jsonl, line 2: column 'level' holds a text \('hard'\), but a number \(1\) at data.jsonl, line 1",
        ),
        ((None, "1", 1), r"line 3: column 'level' holds a number \(1\), but a text \('1'\) at data.jsonl, line 2"),
        ((True, 1), r"line 2: column 'level' holds a number"),
        (({"a": 1}, "a"), r"line 2: column 'level' holds a text"),
        (({"a": 1}, [1]), r"line 2: column 'level' holds a list"),
        ((["a"], "a"), r"line 2: column 'level' holds a text"),
    ],
)
def test_mixed_types_in_a_column_are_named_with_file_row_and_column(write, cells, message):
    rows = [{"prompt": f"{n}", "answer": "1", "level": cell} for n, cell in enumerate(cells)]
    with pytest.raises(ValueError, match=message):
        jsonl(write(rows))


def test_whole_and_broken_numbers_missing_cells_and_objects_of_any_keys_are_one_type(write):
    levels = [1, 2.5, None, 10**30]
    metas = [{"a": 1}, {"b": "x"}, None, {}]
    rows = [
        {"prompt": f"{n}", "answer": "1", "level": a, "meta": b}
        for n, (a, b) in enumerate(zip(levels, metas, strict=True))
    ]
    task = jsonl(write(rows), eval_share=0)
    assert [row["level"] for row in task.train] == levels and [row["meta"] for row in task.train] == metas
    assert [type(row["level"]) for row in task.train] == [int, float, type(None), int]


def test_prompts_are_all_texts_or_all_chats(write):
    rows = [{"prompt": "a", "answer": "1"}, {"prompt": [{"role": "user", "content": "b"}], "answer": "1"}]
    with pytest.raises(
        ValueError, match=r"line 2: column 'prompt' holds a chat, but a text at data.jsonl, line 1.*chat=true"
    ):
        jsonl(write(rows))
    assert all(isinstance(row["prompt"], list) for row in jsonl(write(rows), chat=True, eval_share=0).train)


TAKEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments", "self")


@pytest.mark.parametrize("name", [*TAKEN, "image", "images"])
def test_a_column_whose_name_has_a_meaning_is_refused_or_left_out(write, name):
    rows = [row | {name: "x"} for row in ROWS]
    with pytest.raises(ValueError, match=rf"rename the column '{name}'.*task.drop_columns=\[{name}\]"):
        jsonl(write(rows))
    task = jsonl(write(rows), drop_columns=[name])
    assert all(name not in row for row in task.train + task.evaluation)
    with pytest.raises(ValueError, match=r"no column 'levl' .task.drop_columns.*Did you mean 'level'"):
        jsonl(write(ROWS), drop_columns=["levl"])


def test_a_packed_file_names_the_task_by_its_first_part(write, tmp_path):
    import gzip

    write(ROWS)
    (tmp_path / "questions.jsonl.gz").write_bytes(gzip.compress((tmp_path / "data.jsonl").read_bytes()))
    assert jsonl("questions.jsonl.gz").name == "questions" and jsonl(write(ROWS, "a.b.jsonl")).name == "a.b"


@pytest.mark.parametrize(
    "whole, words",
    [
        ({"a": ROWS, "b": 1}, "under 'a': write that list, and nothing round it, to a file"),
        ({"train": ROWS, "test": ROWS[:2], "info": {}}, "under 'train' and 'test': write each list"),
        ({"a": [{"q": "What?"}], "b": [1, 2]}, "under 'a'"),
    ],
)
def test_rows_inside_one_object_are_found_and_the_remedy_is_named(write, whole, words):
    with pytest.raises(ValueError, match=f"has no column 'prompt'.*{words}"):
        jsonl(write(whole, "data.json"))
    for others in ({"a": 1, "talk": [{"role": "user", "content": "?"}]}, {"a": []}):
        with pytest.raises(ValueError) as told:
            jsonl(write(others, "data.json"))
        assert "one object" not in str(told.value)
