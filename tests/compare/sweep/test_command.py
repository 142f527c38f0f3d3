"""What a sweep runs, from wherever it is started, and what its processes inherit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from compare.report.__main__ import parse
from compare.sweep import command
from support.runs import ROOT


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with the parts of an installation that the sweep looks for: no root scripts, no pyproject.toml."""
    home = tmp_path / "site-packages"
    (home / "apportion").mkdir(parents=True)
    for name in ("train_grpo", "train_sft", "report"):
        (home / "apportion" / f"{name}.py").touch()
    monkeypatch.setattr(command, "CONFIG_DIR", home / "configs")
    monkeypatch.chdir(tmp_path)
    return home


def test_a_cell_runs_our_script_and_a_users_only_where_he_names_it(tmp_path, site):
    assert command._script(None) == str(site / "apportion" / "train_grpo.py")
    assert command._script("train_sft.py") == str(site / "apportion" / "train_sft.py")
    (tmp_path / "train_grpo.py").touch()
    assert command._script(None) == str(site / "apportion" / "train_grpo.py")
    assert command._script("train_grpo.py") == "train_grpo.py"
    assert command._script("nowhere.py") == "nowhere.py"


def test_in_a_checkout_it_is_the_script_of_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_grpo.py").touch()
    assert command.parse(["seed=0"]).launch.script == str(ROOT / "train_grpo.py")
    monkeypatch.chdir(ROOT)
    assert command._script(None) == "train_grpo.py"


def test_only_a_checkout_goes_on_the_path_of_the_report(site, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert command._with_checkout_on_path()["PYTHONPATH"] == "mine"
    (site / "pyproject.toml").touch()
    assert command._with_checkout_on_path()["PYTHONPATH"] == f"{site}{os.pathsep}mine"


def test_processes_of_a_launcher_find_our_packages_before_files_where_they_stand(tmp_path, monkeypatch):
    for name in ("PYTHONSAFEPATH", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # put back at the end
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    sweep = command.parse(["seed=0", "hydra/launcher=basic", f"sweep_dir={tmp_path}"])
    code = "import sys; assert '' not in sys.path; import compare; print(compare.__file__)"
    (tmp_path / "compare.py").write_text("raise SystemExit('the file of the user was run')")
    found = []

    def cell_job():
        found.append(subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True))

    monkeypatch.setattr(command, "cell_job", cell_job)
    with sweep.folder.held():
        cells = sweep.folder.prepare(command.cells_of(sweep), sweep.fixed, {})
        command.run_elsewhere(sweep, sweep.folder, cells, cells)
    if sys.version_info >= (3, 11):
        assert found[0].stdout.strip() == str(ROOT / "compare" / "__init__.py"), found[0].stderr


def test_options_of_the_report_are_handed_on_as_it_reads_them(tmp_path, monkeypatch):
    words = ["report.tuning_seeds=[0,1]", "report.bounds=[0,2]", "report.compare=learning_rate", "seed=0"]
    sweep, said = command.parse([*words, f"sweep_dir={tmp_path}"]), []
    monkeypatch.setattr(
        command.subprocess, "run", lambda line, **_: said.append(line) or subprocess.CompletedProcess(line, 0)
    )
    assert command.report(sweep, sweep.folder) == 0
    _, options, _ = parse(said[0][2:])
    assert (options.tuning_seeds, options.bounds, options.compare) == ((0, 1), (0, 2, False), "learning_rate")
