"""A run folder is data that people send each other: looking at one imports, calls, looks up and follows nothing it names."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compare.records import find_records, read_record
from compare.report import __main__ as report
from compare.untrusted import read_object, read_text, write_file
from compare.view import __main__ as view
from support.records import HOSTILE, on_page, rows, write
from support.reports import straight, write_run

LAUGHS = "\n".join(
    [f"a0: &a0 [{', '.join(['ha'] * 9)}]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]
)


def named_code(marker: Path) -> dict[str, str]:
    """config.yaml files that would leave `marker` behind, or give away a secret, if anything in them were obeyed."""
    call = f"{{_target_: logging.FileHandler, filename: '{marker}'}}"
    whole = f"{{_target_: credit.strategy.Strategy, name: own, critic: {call}, spread: {call}}}"
    return {
        "critic": f"credit: {{_target_: credit.strategy.Strategy, critic: {call}}}\ntask: {call}\nreward: {call}\n",
        "strategy": f"credit: {whole}\nmodel: {call}\n",
        "import": f"credit: {{_target_: {marker.stem}.boom, critic: {{_target_: {marker.stem}.boom}}}}\n",
        "resolver": "credit: {critic: {_target_: '${oc.env:APPORTION_SECRET}'}}\nseed: ${oc.decode:${oc.env:HOME}}\n",
        "tag": f"credit: !!python/object/apply:pathlib.Path.touch ['{marker}']\n",
        "aliases": LAUGHS,
        "deep": "credit: " + "[" * 5000,
        "deeper": "credit:\n  " + "- " * 200_000,
        "no mapping": "- 1\n- 2\n",
        "bytes": "credit: \x00\x01\n",
    }


@pytest.mark.parametrize("kind", named_code(Path("x")))
def test_viewing_a_run_calls_nothing_that_its_config_names(kind, tmp_path, monkeypatch, capsys):
    marker = tmp_path / "pwned.py"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / marker.name).write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path / "here")  # importable, were anybody to import it
    monkeypatch.setenv("APPORTION_SECRET", "the secret")
    values = {"values": [[0.2, 0.3], [0.4, 0.1]]}
    folder = write(tmp_path / "run", rows([["a", "b"], ["c", "d"]], [0, 0], [1.0, 0.0], **values))
    (folder / "config.yaml").write_text(named_code(marker)[kind])
    assert view.main([str(folder), "credit=uniform,value"]) == 0
    page = (folder / "credit.html").read_text()
    assert not marker.exists()
    assert "the secret" not in page + "".join(capsys.readouterr())
    assert "critic is another" in page and '"recorded: mine","uniform"' in page


def test_page_is_written_in_the_place_of_a_link_and_not_through_it(tmp_path):
    folder = write(tmp_path / "run", rows([["a"]], [0], [1.0]))
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (folder / "credit.html").symlink_to(precious)
    assert view.main([str(folder), "credit=uniform"]) == 0
    assert precious.read_text() == "mine" and "uniform" in (folder / "credit.html").read_text()


def test_written_files_appear_whole_and_leave_nothing_beside_them(tmp_path):
    write_file(tmp_path / "new" / "page", "a\udcffb")
    assert (tmp_path / "new" / "page").read_bytes() == b"a\\udcffb"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page"]


def test_pipes_are_not_opened(tmp_path):
    for name in ("config.yaml", "summary.json", "step00000001.parquet"):
        os.mkfifo(tmp_path / name)
    assert read_text(tmp_path / "summary.json") is None and read_object(tmp_path / "config.yaml") is None
    with pytest.raises(ValueError, match="no records"):
        find_records(tmp_path)


def test_pickle_in_the_schema_of_a_record_is_not_loaded(tmp_path):
    marker = tmp_path / "pwned"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    table = pq.read_table(find_records(write(tmp_path, rows([["a"]], [0], [1.0])))[1])
    evil = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Evil())}
    fields = [field.with_metadata(evil) for field in table.schema]
    path = tmp_path / "records" / "step00000001.parquet"
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), path)
    read_record(path)
    assert not marker.exists()


def broken_records(good: pa.Table) -> dict[str, pa.Table | bytes]:
    meta = good.schema.metadata
    shorter = good.set_column(
        good.schema.get_field_index("credit"), "credit", pa.array([[0.5]], pa.list_(pa.float32()))
    )
    words = good.set_column(good.schema.get_field_index("group"), "group", pa.array(["a"]))
    null = good.set_column(good.schema.get_field_index("tokens"), "tokens", pa.array([None], pa.list_(pa.string())))
    return {
        "not Parquet": b"PAR1 no, not at all PAR1",
        "empty file": b"",
        "another format": good.replace_schema_metadata({"apportion_record_format": "9"}),
        "no rows": good.slice(0, 0),
        "no credit": good.drop_columns(["credit"]),
        "credit of another length": shorter.replace_schema_metadata(meta),
        "words for numbers": words.replace_schema_metadata(meta),
        "null tokens": null.replace_schema_metadata(meta),
    }


KINDS = ("not Parquet", "empty file", "another format", "no rows", "no credit", "credit of another length",
         "words for numbers", "null tokens")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_broken_record_is_named_and_the_others_are_shown(kind, tmp_path, capsys):
    folder = write(tmp_path, rows([["a", "b"]], [0], [1.0]))
    write(folder, rows([["c"]], [0], [1.0]), step=2)
    bad = broken_records(pq.read_table(find_records(folder)[1]))
    assert set(bad) == set(KINDS)
    path = folder / "records" / "step00000001.parquet"
    path.write_bytes(bad[kind]) if isinstance(bad[kind], bytes) else pq.write_table(bad[kind], path)
    assert view.main([str(folder), "credit=uniform"]) == 0
    said = capsys.readouterr().err
    assert "step00000001.parquet cannot be shown" in said and said.count("\n") == 1
    (run,) = on_page((folder / "credit.html").read_text())
    assert [step["step"] for step in run["steps"]] == [2]
    (folder / "records" / "step00000002.parquet").unlink()
    assert view.main([str(folder)]) == 2


# ---- reports ------------------------------------------------------------------------------------------------------


def hostile_arm(root: Path, arm: str, **summary) -> None:
    for seed in range(2):
        write_run(root / "chain" / arm / f"seed{seed}", straight(0.5 + seed / 9), **summary)


@pytest.mark.parametrize("kind", named_code(Path("x")))
def test_report_of_a_run_calls_nothing_that_its_config_names(kind, tmp_path, monkeypatch, capsys):
    marker = tmp_path / "pwned.py"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / marker.name).write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("APPORTION_SECRET", "the secret")
    hostile_arm(tmp_path / "runs", "uniform")
    hostile_arm(tmp_path / "runs", "other")
    for folder in (tmp_path / "runs" / "chain").glob("*/*"):
        (folder / "config.yaml").write_text(named_code(marker)[kind])
    assert report.main([str(tmp_path / "runs")]) == 0
    assert not marker.exists()
    written = b"".join(file.read_bytes() for file in (tmp_path / "runs" / "report").iterdir())
    assert b"the secret" not in written and "the secret" not in "".join(capsys.readouterr())


def test_names_of_folders_and_their_numbers_act_in_no_page_table_or_terminal(tmp_path, capsys):
    names = [name for name in HOSTILE if name and "/" not in name and "\0" not in name and "\n" not in name]
    names += ["=HYPERLINK(1)", "@SUM(A1)", "\udcff", "$x^{2}$", "--help", "a\rb"]
    for name in names:
        hostile_arm(
            tmp_path / "runs", name, credit=name, task=name, versions={name: name}, seconds=name, eval_reward_after=name
        )
    manifest = {
        "command": "<script>x</script>\x1b[2J",
        "commit": "\x1b[31m",
        "versions": {"<img src=x>": "<b>"},
        "cells": [],
    }
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps(manifest))
    assert report.main([str(tmp_path / "runs" / "chain"), str(tmp_path / "runs")]) == 0
    said = "".join(capsys.readouterr())
    out = tmp_path / "runs" / "chain" / "report"
    html, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    assert not re.search(r"<(?!/?(?:html|head|meta|title|style|body|main|header|p|h1|h2|span|section|div|ul|li|figure|img|table|thead"
                         r"|tbody|tr|th|td|code|details|summary|pre)\b)[a-z]", html)  # fmt: skip
    assert "&lt;script&gt;" in html and not re.search(r"<img (?!alt=\"[^\"]*\" src=\"data:image/png)", html)
    for written in (
        said,
        html,
        text,
        *((out / f"{name}.csv").read_text() for name in ("runs", "levels", "comparisons")),
    ):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written.replace("\r\n", "\n"))
    for name in ("runs", "levels", "comparisons"):
        cells = [cell for row in csv.reader((out / f"{name}.csv").open()) for cell in row]
        assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_report_is_not_written_through_a_link(tmp_path, capsys):
    hostile_arm(tmp_path / "runs", "uniform")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "report.md").write_text("mine")
    (tmp_path / "runs" / "report").symlink_to(tmp_path / "precious")
    assert report.main([str(tmp_path / "runs")]) == 2
    assert "is a link to another place" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    for name in ("report.html", "report.md", "runs.csv", "final.png"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious" / "report.md")
    assert report.main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "precious" / "report.md").read_text() == "mine"


def test_tasks_whose_names_look_alike_as_files_get_pictures_of_their_own(tmp_path):
    for task in ("a.b", "a b", "..", "a_b"):
        for arm in ("uniform", "other"):
            write_run(tmp_path / "runs" / f"{task}{arm}", straight(0.5), task=task, credit=arm, seed=0)
    assert report.main([str(tmp_path / "runs")]) == 0
    pictures = [path.name for path in (tmp_path / "runs" / "report").glob("learning_*.png")]
    assert len([name for name in pictures if not name.startswith("learning_steps")]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_completions_act_in_no_terminal(capsys):
    from rich.console import Console

    from trainers.run.generations import Probe
    from trainers.run.results import print_written, sample_lines

    text = "\x1b[2J\x1b]0;title\x07[bold]\u202ehello\x9b1m"
    trainer = type("T", (), {"_logs": {"prompt": [text], "completion": [text], "rewards": {"f": [1.0]}}})
    for line in sample_lines(trainer, ["f"], 1):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", line)
    probe = object.__new__(Probe)
    object.__setattr__(probe, "texts", [(text, text)])
    print_written(Console(), probe, 1)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", capsys.readouterr().out)


def test_folder_that_is_not_there_is_said_to_be_missing_with_what_is_near_it(tmp_path, capsys):
    from compare.report.__main__ import main as report
    from compare.view.__main__ import main as view

    (tmp_path / "runs" / "chain" / "seq_norm" / "seed0").mkdir(parents=True)
    for main in (report, view):
        assert main([str(tmp_path / "runs" / "chain" / "seqnorm" / "seed0")]) == 2
        said = capsys.readouterr().err
        assert "no such folder" in said and f"Did you mean {tmp_path}/runs/chain/seq_norm?" in said
        assert main([str(tmp_path / "elsewhere")]) == 2
        assert "no such folder. Give " in capsys.readouterr().err
