"""What a reader of the report must know about where the numbers were made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("apportion", "torch", "transformers", "trl", "accelerate", "peft", "numpy", "scipy", "hydra-core")


def facts_of_machine() -> dict[str, Any]:
    """commit, machine (kind, not name) and versions, for sweep.json."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "commit": commit(Path(__file__).resolve()),
        "machine": f"{platform.system()} {platform.machine()}, {cores} cores",
        "versions": versions,
    }


def commit(file: Path) -> str | None:
    """The commit of the code, with a note if files differ from it; None where `file` is tracked by no repository: a package
    installed below a project of the user's is not at the commit of that project."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=file.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return git("rev-parse", "--short=12", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
