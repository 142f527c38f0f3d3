"""Files of a run folder: whole or not at all, and never through a link that somebody has put there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from support.runs import ROOT
from trainers.run.files import read_metrics, whole, write_json, write_rows, write_text


def test_a_file_that_fails_halfway_leaves_the_old_one_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), whole(tmp_path / "a.txt") as half:
        half.write_text("ne")
        raise RuntimeError("the power went")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_what_a_kill_left_beside_a_file_is_replaced(tmp_path):
    (tmp_path / ".a.txt.half").mkdir()
    (tmp_path / ".a.txt.half" / "inner").write_text("of a killed process")
    write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("trap", ["a.txt", ".a.txt.half"])
def test_links_at_either_place_are_replaced_and_not_followed(tmp_path, trap):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / trap).symlink_to(victim)
    write_text(tmp_path / "a.txt", "new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new" and not (tmp_path / "a.txt").is_symlink()


def test_a_written_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "deep" / "a.json", {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "a.json").stat().st_mode) == 0o640


def test_rows_come_back_without_a_last_line_that_a_kill_has_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    rows = [{"step": 1, "word": "\u2028"}, {"step": 2}]
    write_rows(path, rows)
    assert read_metrics(path) == rows
    with path.open("a") as file:
        file.write('{"step": 3, "rew')
    assert read_metrics(path) == rows


def test_the_names_of_a_run_folder_cost_no_library():
    code = "import sys, trainers.run.files; print({'torch', 'omegaconf', 'yaml', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"
