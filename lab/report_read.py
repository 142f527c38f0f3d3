"""Reads run folders (metrics.jsonl, summary.json, config.yaml) and, where there is one, the sweep they belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

# Generated tokens if the run counts them, else what TRL counts (prompt and completion tokens, all ranks).
TOKEN_COLUMNS = ("generated_tokens", "num_tokens")


@dataclass(frozen=True)
class Run:
    """One training run. `columns[name]` is (steps,) float, NaN where a step did not log `name`."""

    folder: Path
    task: str
    arm: str
    seed: int
    columns: Mapping[str, NDArray[np.float64]]
    finished: bool
    summary: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def curve(self, x: str, y: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y) at the steps that logged both.

        Raises:
            ValueError: the run never logged one of them.
        """
        for name in (x, y):
            if name not in self.columns:
                known = ", ".join(sorted(self.columns)) or "nothing"
                raise ValueError(f"{self.folder} logged no `{name}`. It logged: {known}.")
        both = np.isfinite(self.columns[x]) & np.isfinite(self.columns[y])
        return self.columns[x][both], self.columns[y][both]


@dataclass(frozen=True)
class Missing:
    """A cell the sweep asked for that has no usable run."""

    cell: str
    state: str
    error: str


@dataclass(frozen=True)
class Study:
    """Everything a report is made of."""

    runs: tuple[Run, ...]
    missing: tuple[Missing, ...]
    sweep: Mapping[str, Any]  # sweep.json; empty without a sweep
    folders: tuple[Path, ...]

    @property
    def tokens(self) -> str:
        """The column that counts tokens in every run, or "step" if none does."""
        return next((name for name in TOKEN_COLUMNS if all(name in run.columns for run in self.runs)), "step")


def read_study(folders: Iterable[str | Path]) -> Study:
    """Reads every run below the folders; a folder with a sweep.json gives its cells, their arms and what is missing.

    Raises:
        ValueError: a folder does not exist, there is no run with metrics below any of them, or two runs claim the same
            place in the comparison.
    """
    folders = tuple(dict.fromkeys(Path(folder) for folder in folders))
    runs: list[Run] = []
    missing: list[Missing] = []
    sweep: dict[str, Any] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: no such folder. Give run folders, a folder that holds some, or a sweep folder."
            )
        if (folder / "sweep.json").is_file():
            sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            for cell in sweep["cells"]:
                state = read_json(folder / "state" / f"{cell['id']}.json")
                run = read_run(folder / "cells" / cell["id"], cell["task"], cell["arm"], cell["seed"])
                if run is not None:
                    runs.append(run)
                if run is None or not run.finished:
                    missing.append(Missing(cell["id"], state.get("state", "not started"), state.get("error", "")))
        else:
            found = sorted({path.parent for path in folder.rglob("metrics.jsonl") if "report" not in path.parts})
            runs += [run for path in found if (run := read_run(path)) is not None]
    if not runs:
        raise ValueError(f"No run with a non-empty metrics.jsonl below {', '.join(map(str, folders))}.")
    runs = list({run.folder.resolve(): run for run in runs}.values())  # folders may lie inside each other
    places: dict[tuple[str, str, int], Path] = {}
    for run in runs:
        if (other := places.setdefault((run.task, run.arm, run.seed), run.folder)) != run.folder:
            raise ValueError(
                f"{other} and {run.folder} are both task {run.task}, arm {run.arm}, seed {run.seed}; leave one of them out."
            )
    return Study(tuple(runs), tuple(missing), sweep, folders)


def read_run(folder: Path, task: str | None = None, arm: str | None = None, seed: int | None = None) -> Run | None:
    """One run folder; None if it has no metrics yet. Task, arm and seed default to what its path says
    (`<task>/<credit>/seed<k>`), then to its summary, then to its config."""
    columns = read_metrics(folder / "metrics.jsonl")
    if not columns:
        return None
    config, summary = _yaml(folder / "config.yaml"), read_json(folder / "summary.json")
    from_path = re.fullmatch(r"seed(\d+)", folder.name)
    parents = folder.resolve().parts[-3:-1]
    if seed is None:
        seed = int(from_path[1]) if from_path else int(summary.get("seed", config.get("seed", 0)))
    if arm is None:
        arm = parents[1] if from_path else summary.get("credit") or _name(config.get("credit")) or folder.name
    if task is None:
        task = parents[0] if from_path else summary.get("task") or _name(config.get("task")) or "task"
    finished = (folder / "summary.json").is_file()
    return Run(folder, str(task), str(arm), seed, columns, finished, summary, config)


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """metrics.jsonl as columns, sorted by step. A step logged twice (a resumed run) counts once, the last time; lines
    cut short by a crash and lines without a step are left out."""
    rows: dict[int, dict[str, float]] = {}
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int | float):
            numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
            rows.setdefault(int(row["step"]), {}).update(numbers)
    steps = sorted(rows)
    names = sorted({name for row in rows.values() for name in row})
    return {name: np.array([rows[step].get(name, np.nan) for step in steps]) for name in names}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def _name(node: Any) -> str:
    return str(node.get("name", "")) if isinstance(node, dict) else str(node or "")
