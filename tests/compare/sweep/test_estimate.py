from __future__ import annotations

import json
from pathlib import Path

import pytest

from compare.sweep.cells import Cell
from compare.sweep.estimate import Pace, cell_seconds, known_paces
from compare.sweep.folder import SweepFolder


def write_sweep(
    root: Path, seconds: float, steps: int, trained: float, rows: int = 8, model: str = "task=chain"
) -> None:
    """A sweep of one finished cell."""
    cell = Cell("seed=0", (), "uniform", "chain", 0, model)
    folder = SweepFolder(root)
    folder.prepare([cell], [], {})
    folder.set_state(cell, state="finished", seconds=seconds)
    folder.run_dir(cell).mkdir(parents=True)
    summary = {"steps": steps, "seconds": trained, "completions_per_step": rows}
    (folder.run_dir(cell) / "summary.json").write_text(json.dumps(summary))


def todo(model: str = "task=chain") -> list[Cell]:
    return [Cell("seed=1", (), "uniform", "chain", 1, model)]


def test_time_grows_with_the_steps_and_the_completions_and_not_with_the_start(tmp_path):
    write_sweep(tmp_path / "short", seconds=14, steps=2, trained=4)
    paces, source = known_paces(SweepFolder(tmp_path / "mine"), todo())
    assert paces == [Pace(10, 2, 2, 8)] and source == "cells of neighbouring sweeps"
    assert cell_seconds(paces, 80, 8) == 10 + 80 * 2
    assert cell_seconds(paces, 80, 16) == 10 + 80 * 4
    assert cell_seconds(paces, 0, 8) == 14, "as many steps as there, where they are not known"


def test_cells_of_this_sweep_count_before_neighbours_and_those_of_another_task_not_at_all(tmp_path):
    write_sweep(tmp_path / "other", 100, 10, 50, model="task=doors")
    assert known_paces(SweepFolder(tmp_path / "mine"), todo())[0] == []
    assert "another task" in known_paces(SweepFolder(tmp_path / "mine"), todo())[1]
    write_sweep(tmp_path / "near", 30, 10, 20)
    write_sweep(tmp_path / "mine", 7, 1, 2)
    assert known_paces(SweepFolder(tmp_path / "mine"), todo()) == ([Pace(5, 2, 1, 8)], "finished cells of this sweep")


@pytest.mark.parametrize("broken", ['{"state": "fin', "[]", '{"state": "finished", "seconds": "x"}'])
def test_broken_state_of_a_neighbouring_sweep_stops_no_estimate(broken, tmp_path):
    write_sweep(tmp_path / "bad", 9, 1, 1)
    write_sweep(tmp_path / "good", 7, 1, 2)
    (tmp_path / "bad" / "state" / "seed=0.json").write_text(broken)
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / "sweep.json").write_text(broken)
    assert known_paces(SweepFolder(tmp_path / "mine"), todo())[0] == [Pace(5, 2, 1, 8)]
