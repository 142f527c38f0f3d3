"""One reader for every file a user gives: the same lines whoever reads, and messages that name file, line and column."""

import csv
import gzip
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.compose import compose_config
from tasks.corpus import corpus
from tasks.jsonl import jsonl
from trainers.command.recorded.score import _parser, _rows
from trainers.run.sample import prompts_of
from userio.read import kind_of, read_lines, read_rows

ODD = "a\u2028b\u0085c\x0bd\x0ce\x1cf\u2029g"  # one line, though str.splitlines would cut it up


def scored(file):
    return [
        row["completion"] for row in _rows(_parser().parse_args(["--file", str(file)]), compose_config("score"), None)
    ]


def sampled(file):
    return prompts_of(SimpleNamespace(limit=None, prompts=str(file)), None)


def learnt(file):
    task = corpus(str(file), n_eval=1)
    return [row["completion"] for row in task.train + task.evaluation]


def asked(file):
    return [row["prompt"] for row in jsonl(str(file), answer_column=None, eval_share=0).train]


READERS = {
    "score": (scored, "completion"),
    "sample": (sampled, "prompt"),
    "corpus": (learnt, "text"),
    "task": (asked, "prompt"),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("reader", ["score", "sample", "corpus"])
def test_a_line_of_text_ends_at_a_line_end_alone_and_a_byte_order_mark_is_no_text(tmp_path, reader, mark, end):
    file = tmp_path / "data.TXT"
    file.write_bytes((mark + end.join([ODD, "", "second", "third"])).encode())
    assert sorted(READERS[reader][0](file)) == [ODD, "second", "third"]


@pytest.mark.parametrize("kind", ["jsonl", "JSONL", "json", "Json", "csv", "parquet", "jsonl.gz", "JSON.GZ", "csv.gz"])
@pytest.mark.parametrize("reader", READERS)
def test_every_command_reads_every_kind_of_table_alike(tmp_path, reader, kind):
    read, column = READERS[reader]
    rows = [{column: ODD, "n": "1"}, {column: "second", "n": "2"}, {column: "third", "n": "3"}]
    write(tmp_path / f"data.{kind}", rows)
    assert sorted(read(tmp_path / f"data.{kind}")) == [ODD, "second", "third"]


def write(file, rows):
    kind = kind_of(file)
    if kind == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        return
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    with opened(file, "wt", encoding="utf-8-sig", newline="") as text:
        if kind == ".csv":
            sheet = csv.DictWriter(text, rows[0])
            sheet.writeheader()
            sheet.writerows(rows)
        elif kind == ".jsonl":
            text.write("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        else:
            text.write(json.dumps(rows, ensure_ascii=False))


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b,\n": CELLS}), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_what_python_writes_is_read_back_by_every_kind(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("kinds")
    for kind in ("jsonl", "json", "csv"):
        write(folder / f"x.{kind}", rows)
        assert [row for _, row in read_rows(folder / f"x.{kind}", "path")] == rows


@pytest.mark.parametrize("length", [131_072, 131_073, 400_000])
def test_a_long_csv_cell_is_read_and_pythons_limit_stays_what_it_was(tmp_path, length):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f'prompt,answer\n"{"x" * length}",1\n')
    ((_, row),) = read_rows(tmp_path / "a.csv", "task.path")
    assert len(row["prompt"]) == length and csv.field_size_limit() == before


def test_places_are_the_lines_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_text('p,q\n"one\ntwo\nthree",1\n\n4,5\n')
    (tmp_path / "a.json").write_text('[\n  {"p": [1,\n 2]},\n\n  {"p": 3}, {"p": 4}\n]\n')
    (tmp_path / "a.jsonl").write_text('{"p": 1}\n\n\r\n{"p": 2}\n')
    assert [place.partition(", ")[2] for place, _ in read_rows(tmp_path / "a.csv", "x")] == ["line 2", "line 6"]
    places = [place.partition(", ")[2] for place, _ in read_rows(tmp_path / "a.json", "x")]
    assert places == ["line 2 (row 1)", "line 5 (row 2)", "line 5 (row 3)"]
    assert [place.partition(", ")[2] for place, _ in read_rows(tmp_path / "a.jsonl", "x")] == ["line 1", "line 4"]
    assert [place for place, _ in read_lines(tmp_path / "a.jsonl", "x")][3] == f"{tmp_path / 'a.jsonl'}, line 4"


def test_one_object_is_one_row_and_a_cell_keeps_its_type(tmp_path):
    (tmp_path / "a.json").write_text('{"prompt": [{"role": "user", "content": "x"}]}')
    assert [row for _, row in read_rows(tmp_path / "a.json", "x")] == [{"prompt": [{"role": "user", "content": "x"}]}]
    (tmp_path / "b.jsonl").write_text('{"a": 123456789012345678901234567890, "b": 1.0, "c": true, "d": {"e": [null]}}')
    ((_, row),) = read_rows(tmp_path / "b.jsonl", "x")
    assert row == {"a": 123456789012345678901234567890, "b": 1.0, "c": True, "d": {"e": [None]}} and row["c"] is True


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"p": 1}\n{"p": NaN}\n', r"a.jsonl, line 2: NaN is not JSON; write null"),
        ("a.jsonl", '{"p": -Infinity}', r"line 1: -Infinity is not JSON"),
        ("a.jsonl", '{"p": 1}\n{"p": 1, "p": 2}', r"line 2: the key 'p' stands twice"),
        ("a.jsonl", '{"p": {"q": 1, "q": 2}}', r"line 1: the key 'q' stands twice"),
        ("a.jsonl", '{"p": %s}' % ("9" * 5000), r"line 1: a whole number of more than 4,300 digits"),
        ("a.jsonl", '{"p": 1}\n' + "[" * 100_000, r"line 2: nested too deeply"),
        ("a.jsonl", '{"p": 1} {"p": 2}', r"line 1: not JSON \(Extra data, at column 10"),
        ("a.jsonl", "{'p': 1}", r"line 1: not JSON"),
        ("a.jsonl", '{"p": 1}\n{"p": "\\ud83d!"}', r"line 2, column 'p': '\\ud83d' is half of a character"),
        ("a.jsonl", '{"p": 1}\n{"p": {"q": ["\\ude00"]}}', r"line 2, column 'p'"),
        ("a.jsonl", '{"p": 1}\n\0\0\0', r"line 2: a NUL"),
        ("a.jsonl", "\n \n\r\n", r"path=.*a.jsonl has no rows"),
        ("a.jsonl", b'{"p": 1}\r\n{"p": "caf\xe9"}', r"a.jsonl, line 2: not UTF-8 text .*0xe9.*caf.*iconv -f LATIN1"),
        ("a.jsonl", '{"p": 1}'.encode("utf-16"), r"a.jsonl is UTF-16 text, not UTF-8: iconv"),
        ("a.jsonl", '{"p": 1}'.encode("utf-16-le"), r"line 1: a NUL"),
        ("a.json", '[{"p": 1},\n{"p": 1, "p": 2}]', r"line 2 \(row 2\): the key 'p' stands twice"),
        ("a.json", '[{"p": 1},\n{"p": NaN}]', r"line 2 \(row 2\): NaN"),
        ("a.json", '[{"p": 1},\n{"p": "\\ud800"}]', r"line 2 \(row 2\), column 'p'"),
        ("a.json", '[{"p": 1},]', r"line 1: not JSON"),
        ("a.json", '[{"p": 1},\n 3]', r"line 2 \(row 2\): a row must be an object"),
        ("a.json", '{"data": [{"p": 1}]}', r"rows stand under the key 'data'"),
        ("a.json", "", r"line 1: not JSON"),
        ("a.json", "3", r"must hold a list of objects, or one, got int"),
        ("a.csv", "p,q\n1,2,3\n", r"line 2: not as many cells .*\(3, and 2: p, q\)"),
        ("a.csv", 'p,q\n"1\n\n2",2\n3\n', r"line 5: not as many cells"),
        ("a.csv", "p,q,p\n1,2,3\n", r"line 1: the header names 'p' 2 times"),
        ("a.csv", 'p,q\n1,2\n3,"4\n5,6\n', r"line 3: a quoted cell is never closed"),
        ("a.csv", "p,q\n1,\0\n", r"line 2: a NUL"),
        ("a.csv", "p,q\n", r"has no rows"),
        ("a.csv", "", r"has no rows"),
        ("a.csv", b"p,q\n1,\xff\n", r"line 2: not UTF-8 text"),
        ("a.parquet", b"", r"not a Parquet file"),
        ("a.jsonl.gz", b"no gzip", r"a.jsonl.gz cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"p": 1}' * 999, mtime=0)[:-20], r"a.jsonl.gz cannot be read"),
        ("a.jsonl.zst", b"x", r"not .zst. Unpack it first"),
        ("a.xlsx", b"x", r"not .xlsx"),
        ("a", b"x", r"not this"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name, "path")


def test_a_limit_reads_no_further_and_is_at_least_one(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"p": 1}\n{"p": 2}\nbroken')
    assert [row["p"] for _, row in read_rows(tmp_path / "a.jsonl", "x", 2)] == [1, 2]
    for limit in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            read_rows(tmp_path / "a.jsonl", "x", limit)


@pytest.mark.parametrize("reader", READERS)
def test_every_command_names_the_folder_or_the_file_that_is_not_there(tmp_path, reader):
    read = READERS[reader][0]
    (tmp_path / "questions.jsonl").write_text("{}")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"Did you mean 'questions.jsonl'"):
        read(tmp_path / "question.jsonl")
    with pytest.raises(ValueError, match=r"is a folder"):
        read(tmp_path / "folder.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"completion": "x"}\n{"prompt": "p", "complete": "y"}',
            'line 2: no column "completion".*there is: prompt, complete',
        ),
        ("a.jsonl", '{"completion": 3}', "line 1: A completion must be a string"),
        ("a.json", '[{"completion": "x"}, {"completion": null}]', r"line 1 \(row 2\): A completion"),
        ("a.jsonl", '{"completion": "x", "self": 1}', "Rename the column 'self'"),
        ("a.jsonl", '{"completion": "x", "completions": 1}', "Rename the column 'completions'"),
        ("a.csv", "answer\n1\n", "line 2: no column"),
    ],
)
def test_scoring_names_the_row_without_a_completion(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        scored(tmp_path / name)


def test_scoring_reads_text_as_the_completion_only_where_there_is_none(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": "y", "completion": "z"}')
    assert scored(tmp_path / "a.jsonl") == ["x", "z"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "x"}\n{"question": "y"}', 'line 2: every row .* needs a column "prompt"'),
        ('{"prompt": "x"}\n{"prompt": ""}', "line 2: a prompt must be"),
        ('{"prompt": "x"}\n{"prompt": 3}', "line 2: a prompt must be"),
    ],
)
def test_sampling_names_the_row_without_a_prompt(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        sampled(tmp_path / "a.jsonl")
