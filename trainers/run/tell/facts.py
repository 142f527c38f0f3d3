"""What a run is, as data: its command, composed configuration, strategy, task, reward, commit and versions.

<run>/started.jsonl     one line for each time the run was started or went on; trackers get the same
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from trainers.command.job import Job
from trainers.run.tell.outputs import without_secret, without_secrets
from userio.git import code_commit, commit_here


def versions() -> dict[str, str]:
    """Of what decides the numbers; without Apportion's own where it is not installed."""
    found = {"python": sys.version.split()[0]}
    for name in ("apportion", "torch", "transformers", "trl", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def facts_of(job: Job, world_size: int) -> dict[str, Any]:
    """Everything a reader of the numbers must know, ready for JSON. `commit` is Apportion's own, `project` the one of the
    folder the command was given in; null where there is none."""
    command = job.command
    config = without_secrets(OmegaConf.to_container(command.config, resolve=True))
    node = config.get("credit") or config.get("weight") or {}
    ours, theirs = code_commit(Path(__file__).resolve()), commit_here()
    return {
        "run": job.folder.name,
        "strategy": job.credit,
        "members": {axis: _last(part) for axis, part in node.items() if isinstance(part, dict) and "_target_" in part},
        "task": command.choices["task"],
        "model": command.choices["model"],
        "reward": command.choices.get("reward"),
        "seed": command.config.seed,
        "command": command_line(),
        "commit": ours and ours.id,
        "commit_dirty": ours and ours.is_dirty,
        "project": theirs and theirs.id,
        "project_dirty": theirs and theirs.is_dirty,
        "processes": world_size,
        "versions": versions(),
        "config": config,
    }


def write_start(path: Path, facts: Mapping[str, Any], step: int) -> None:
    """Adds a line to started.jsonl: the facts without the configuration, which is config.yaml. step: where it goes on."""
    row = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "after_step": step}
    row |= {key: value for key, value in facts.items() if key != "config"}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def command_line() -> str:
    """The command of this process as a shell takes it, without what is secret."""
    words = [without_secret(word) for word in sys.argv]
    if not words:
        return ""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if Path(words[0]).name == "__main__.py" and module is not None:
        return shlex.join(["python", "-m", module.name.removesuffix(".__main__"), *words[1:]])
    return shlex.join([Path(words[0]).name, *words[1:]])


def _last(part: Mapping[str, Any]) -> str:
    return str(part["_target_"]).rpartition(".")[2]
