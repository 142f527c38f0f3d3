"""The commit that the folder of a run names."""

from __future__ import annotations

import subprocess
from pathlib import Path

from userio.git import Commit, code_commit, commit_here


def test_the_commit_is_that_of_the_file_and_not_of_a_project_around_it(tmp_path, monkeypatch):
    def git(*arguments: str):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    mine, installed = tmp_path / "mine.py", tmp_path / "venv" / "facts.py"
    installed.parent.mkdir()
    for file in (mine, installed):
        file.touch()
    assert code_commit(mine) is None
    git("init")
    git("add", "mine.py")
    git("commit", "-m", "one")
    clean = code_commit(mine)
    assert clean is not None and len(clean.id) == 12 and str(clean) == clean.id and code_commit(installed) is None
    monkeypatch.chdir(installed.parent)
    assert commit_here() == clean, "of the project, whoever tracks the folder"
    mine.write_text("changed")
    assert code_commit(mine) == Commit(clean.id, is_dirty=True)
    assert str(code_commit(mine)).endswith(" with uncommitted changes")
    assert code_commit(Path(__file__)), "of a checkout"
