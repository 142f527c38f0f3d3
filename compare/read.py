"""Reads run folders (metrics.jsonl, summary.json, config.yaml) and, where there is one, the sweep they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare.untrusted import check_folder, read_object, read_text
from trainers.run.files import CONFIG, METRICS, SUMMARY, metric_rows

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
    notes: tuple[str, ...] = ()  # what is wrong with its files
    titled: bool = False  # its arm is what a sweep calls it, and not a folder's name

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
class Skipped:
    """A folder that looked like a run and is none."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Study:
    """Everything a report is made of."""

    runs: tuple[Run, ...]
    missing: tuple[Missing, ...]
    sweep: Mapping[str, Any]  # sweep.json; empty without a sweep
    folders: tuple[Path, ...]
    skipped: tuple[Skipped, ...] = ()


def token_column(runs: Iterable[Run]) -> str:
    """The column that counts tokens in every run, or "step" if none does."""
    runs = tuple(runs)
    return next((name for name in TOKEN_COLUMNS if all(name in run.columns for run in runs)), "step")


def read_study(folders: Iterable[str | Path]) -> Study:
    """Reads every run below the folders; a folder with a sweep.json gives its cells, their arms and what is missing.
    Nothing that a folder holds stops the others: what cannot be read is listed under `skipped`.

    Raises:
        ValueError: a folder does not exist, or there is no run with metrics below any of them.
    """
    folders = tuple(dict.fromkeys(Path(folder) for folder in folders))
    runs: list[Run] = []
    missing: list[Missing] = []
    skipped: list[Skipped] = []
    sweep: dict[str, Any] = {}
    for folder in folders:
        check_folder(folder, "run folders, a folder that holds some, or a sweep folder")
        try:
            manifest = _sweep(folder)
        except ValueError as error:
            manifest = None
            skipped.append(Skipped(folder / "sweep.json", f"{error}; its runs are taken by their folders"))
        found = [{"folder": path} for path in _runs_below(folder)]
        if manifest is not None:
            sweep, found = manifest, manifest["cells"]
        for cell in found:
            run = None
            try:
                run = read_run(**{"folder": folder / "cells" / cell.get("id", ""), **_named(cell)})
            except ValueError as error:
                skipped.append(Skipped(cell.get("folder", folder / "cells" / cell.get("id", "")), str(error)))
            if run is not None:
                runs.append(run)
            if "id" in cell and (run is None or not run.finished):
                state = _read_json(folder / "state" / f"{cell['id']}.json")
                words = (str(state.get("state", "not started")), str(state.get("error", "")))
                missing.append(Missing(cell["id"], *words))
    if not runs:
        why = f" {len(skipped)} cannot be read, e.g. {skipped[0].folder}: {skipped[0].reason}." if skipped else ""
        raise ValueError(f"No run with a non-empty metrics.jsonl below {', '.join(map(str, folders))}.{why}")
    runs = list({run.folder.resolve(): run for run in runs}.values())  # folders may lie inside each other
    return Study(tuple(runs), tuple(missing), sweep, folders, tuple(skipped))


def _runs_below(folder: Path) -> list[Path]:
    """Folders with a metrics.jsonl, reports left out."""
    return sorted(p.parent for p in folder.rglob(METRICS) if "report" not in p.relative_to(folder).parts[:-1])


def _sweep(folder: Path) -> dict[str, Any] | None:
    """sweep.json, its cells checked; None if the folder is no sweep.

    Raises:
        ValueError: it is broken, or a cell leads out of the folder.
    """
    sweep = read_object(folder / "sweep.json")
    if sweep is None:
        return None
    cells = sweep.get("cells")
    for cell in cells if isinstance(cells, list) else [None]:
        types = {"id": str, "task": str, "arm": str, "seed": int}
        if not isinstance(cell, dict) or not all(isinstance(cell.get(key), kind) for key, kind in types.items()):
            raise ValueError("sweep.json lists a cell without id, task, arm and seed")
        if Path(cell["id"]).name != cell["id"] or cell["id"] in ("", ".", ".."):
            raise ValueError(f"sweep.json names the cell {cell['id']!r}, which is no folder's name")
    return sweep


def _named(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {key: cell[key] for key in ("folder", "task", "arm", "seed") if key in cell}


def read_run(folder: Path, task: str | None = None, arm: str | None = None, seed: int | None = None) -> Run | None:
    """One run folder; None if it has not logged anything yet. Task, arm and seed default to what its path says
    (`<task>/<credit>/seed<k>`), then to its summary, then to its config; a seed in its config counts before the path's.

    Raises:
        ValueError: metrics.jsonl cannot be read, or holds no number.
    """
    columns = metric_columns(folder / METRICS)
    if not columns:
        if not (folder / METRICS).is_file() or (folder / METRICS).stat().st_size == 0:
            return None
        raise ValueError("metrics.jsonl holds no row with a step and numbers")
    notes: list[str] = []
    config, summary = (_read(folder / name, notes) for name in (CONFIG, SUMMARY))
    finished = summary is not None
    config, summary = config or {}, summary or {}
    titled, from_path = arm is not None, re.fullmatch(r"seed(\d+)", folder.name)
    parents = folder.resolve().parts[-3:-1]
    if seed is None:
        said = (config.get("seed"), int(from_path[1]) if from_path else None, summary.get("seed"))
        seed = next((value for value in said if isinstance(value, int)), 0)
    if arm is None:
        arm = parents[1] if from_path else _name(summary.get("credit")) or _name(config.get("credit")) or folder.name
    if task is None:
        task = parents[0] if from_path else _name(summary.get("task")) or _name(config.get("task")) or "task"
    return Run(folder, str(task), str(arm), seed, columns, finished, summary, config, tuple(notes), titled)


def _read(path: Path, notes: list[str]) -> dict[str, Any] | None:
    try:
        return read_object(path)
    except ValueError as error:
        notes.append(str(error))
        return None


def metric_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """metrics.jsonl as columns, sorted by step. A step logged twice (a resumed run) counts once, the last time; lines
    cut short by a crash and lines without a step are left out."""
    rows: dict[int, dict[str, float]] = {}
    for row in metric_rows(read_text(path) or ""):
        if isinstance(row.get("step"), bool):
            continue
        try:
            step = int(row["step"])
            numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
            numbers["step"] = float(step)
        except (ValueError, OverflowError, KeyError, TypeError):
            continue
        rows.setdefault(step, {}).update(numbers)
    steps = sorted(rows)
    names = sorted({name for row in rows.values() for name in row})
    return {name: np.array([rows[step].get(name, np.nan) for step in steps]) for name in names}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it is missing or broken."""
    try:
        return read_object(path) or {}
    except ValueError:
        return {}


def _name(node: Any) -> str:
    node = node.get("name") if isinstance(node, dict) else node
    return node if isinstance(node, str) else ""
