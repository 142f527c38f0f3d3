"""The commit that files are at."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """A commit, and whether tracked files differ from it."""

    id: str
    is_dirty: bool

    def __str__(self) -> str:
        return self.id + (" with uncommitted changes" if self.is_dirty else "")


def code_commit(file: Path) -> Commit | None:
    """The commit of the repository that tracks `file`; None where none does: a package installed below a project of the
    user's is not at the commit of that project."""
    return _commit(file.parent) if _git(file.parent, "ls-files", "--error-unmatch", file.name) is not None else None


def commit_here() -> Commit | None:
    """The commit of the project that the command was given in; None outside of one."""
    return _commit(Path.cwd())


def _commit(folder: Path) -> Commit | None:
    name, changed = _git(folder, "rev-parse", "--short=12", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
    return None if name is None else Commit(name, changed != "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
