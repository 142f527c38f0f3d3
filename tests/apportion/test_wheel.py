"""The wheel, installed in an environment of its own: every command, from an empty folder and from one whose files have the
names of all our packages."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from apportion.packages import NEEDS
from support.runs import ROOT, SMALL

pytestmark = pytest.mark.slow

REWARD = """
from my_helper import LETTERS
def polite(prompts, completions, **columns):
    return [float(sum(map(ord, text)) % LETTERS) for text in completions]
"""
TINY = [*SMALL, "reward.funcs=[my_rewards.py:polite]", "trainer.max_steps=2", "record.every=1"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as `python -m build` builds it, with the hatchling that is installed here."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of a fresh environment with the wheel, which sees what is installed here but for our own checkout: lines of
    a .pth file are folders whose own .pth files, an editable install among them, are not read."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python3*/site-packages"))
    here = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "running.pth").write_text("\n".join([*here, *site.getsitepackages()]))
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", *options, str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module", params=["empty", "hostile"])
def project(request, tmp_path_factory):
    """A folder of the user's. The hostile one has a module for every package of ours, that ends what imports it, and more."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "my_rewards.py").write_text(REWARD)
    (folder / "my_helper.py").write_text("LETTERS = 7\n")
    if request.param == "hostile":
        for name in (*NEEDS, "train_grpo"):
            (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user was run')\n")
        for name in ("configs", "tasks"):
            (folder / f"{name}.py").unlink()
            (folder / name / "credit").mkdir(parents=True)
            (folder / name / "__init__.py").write_text(f"raise SystemExit('{name}/ of the user was run')\n")
            (folder / name / "train_grpo.yaml").write_text("# mine\ncredit: none\n")
            (folder / name / "credit" / "seq_norm.yaml").write_text("# mine\n_target_: nothing\n")
    return folder


@pytest.fixture(scope="module")
def run(installed, project, tmp_path_factory):
    """Runs a command of the fresh environment in the folder; the first word is a program of it."""
    cache = tmp_path_factory.mktemp("cache")

    def run(program: str, *arguments: str, **variables: str) -> str:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "APPORTION_CACHE": str(cache),
            **variables,
        }
        command = [str(installed / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_yaml_and_page_part_and_says_that_it_is_typed(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", *NEEDS, "apportion"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) <= inside and any(name.startswith("configs/credit/") for name in inside)
    assert {f"{name}/py.typed" for name in ("apportion", *NEEDS)} <= inside


hostile = pytest.mark.parametrize("project", ["hostile"], indirect=True)


def test_train_score_report_view(run, project, installed):
    before = files_of(installed)
    run("apportion", "train_grpo", *TINY, "credit=seq_norm", "run_dir=runs/one", "reward.guard.workers=1")
    summary = json.loads((project / "runs" / "one" / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["credit"] == "seq_norm" and summary["initial_reward"] > 0
    said = run("python", "-m", "apportion.score", "reward.funcs=[my_rewards.py:polite]", "--completion", "a", "--json")
    assert json.loads(said.splitlines()[0])["scores"] == {"polite": float(ord("a") % 7)}
    run("apportion", "report", "runs")
    assert "seq_norm" in (project / "runs" / "report" / "runs.csv").read_text()
    run("python", "-m", "apportion.view", "runs/one", "credit=dr_grpo")
    assert (project / "runs" / "one" / "credit.html").stat().st_size > 10_000
    assert files_of(installed) == before, "something was written into the environment"


@hostile
def test_two_ranks_and_the_file_that_asks_for_them(run, project):
    config = Path(run("apportion", "configs").strip()) / "accelerate" / "cpu_2.yaml"
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    run("python", *launch, "-m", "apportion.train_grpo", *TINY, "run_dir=runs/ranks")
    assert json.loads((project / "runs" / "ranks" / "summary.json").read_text())["world_size"] == 2


def test_sweep(run, project):
    run("apportion", "sweep", "credit=uniform,seq_norm", "seed=0", "jobs=2", "sweep_dir=sweeps/mine", *TINY)
    cells = sorted(path.parent.name for path in project.glob("sweeps/mine/cells/*/summary.json"))
    assert len(cells) == 2
    assert "seq_norm" in (project / "sweeps" / "mine" / "report" / "runs.csv").read_text()
    said = json.loads((project / "sweeps" / "mine" / "sweep.json").read_text())
    assert said["commit"] is None and said["versions"]["apportion"]


@hostile
def test_bench_and_card(run, project, installed):
    before = files_of(installed)
    run("apportion", "bench", "credit=seq_norm", "worlds=tiny", "jobs=2")
    assert (project / "lab_out" / "bench.json").is_file()
    run("python", "-m", "apportion.card", "credit=seq_norm")
    assert (project / "docs" / "strategies" / "seq_norm.md").is_file()
    assert files_of(installed) == before


@hostile
def test_a_strategy_of_the_users_from_a_folder_called_configs(run, project):
    """`--config-dir` is what the user says, whatever it is called; ours are found where they are."""
    (project / "configs" / "credit").mkdir(parents=True, exist_ok=True)
    (project / "my_credit.py").write_text(
        "def late(advantages_B, mask_BT):\n    return advantages_B[:, None] * mask_BT\n"
    )
    (project / "configs" / "credit" / "late.yaml").write_text(
        "# later\ndefaults: [dr_grpo, _self_]\nname: late\nspread:\n  _target_: my_credit.late\n"
    )
    said = run("apportion", "train_grpo", "--config-dir", "configs", "credit=late", "--cfg", "job")
    assert "_target_: my_credit.late" in said and "max_completion_length" in said
    run("python", "-m", "apportion.bench", "--config-dir", "configs", "credit=late", "worlds=tiny")
