"""What a reader of the report must know about where the numbers were made."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from userio.git import code_commit

_PACKAGES = ("apportion", "torch", "transformers", "trl", "accelerate", "peft", "numpy", "scipy", "hydra-core")


def facts_of_machine() -> dict[str, Any]:
    """commit, machine (kind, not name) and versions, for sweep.json."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = code_commit(Path(__file__).resolve())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "commit": str(commit) if commit else None,
        "machine": f"{platform.system()} {platform.machine()}, {cores} cores",
        "versions": versions,
    }
