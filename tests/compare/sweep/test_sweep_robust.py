"""Sweeps of a small trainer with the contract of the real one, killed, crashed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from compare.sweep.engine import tail

ROOT = Path(__file__).resolve().parents[3]
FAKE = ["launch.program=[python]", "launch.script=tests/compare/sweep/fake_train.py", "check=false", "report=false"]


def command(folder, *more):
    return [
        sys.executable,
        "sweep.py",
        "credit=uniform,seq_norm",
        "seed=0,1",
        "jobs=2",
        f"sweep_dir={folder}",
        *FAKE,
        *more,
    ]


def run(folder, *more, code=0):
    done = subprocess.run(command(folder, *more), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def results(folder):
    """Everything a cell computed, by cell; times and process ids left out."""
    return {
        path.parent.name: (path.read_text(), (path.parent / "metrics.jsonl").read_text())
        for path in sorted(Path(folder).glob("cells/*/summary.json"))
    }


def states(folder):
    return {path.stem: json.loads(path.read_text()) for path in Path(folder).glob("state/*.json")}


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def processes_naming(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()) and process.pid != os.getpid():
            found.append(process)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return results(folder)


def test_cells_run_on_cores_of_their_own_and_leave_no_checkpoints(tmp_path):
    run(tmp_path)
    assert len(results(tmp_path)) == 4
    assert not list(tmp_path.glob("cells/*/checkpoints"))
    assert len(list(tmp_path.glob("cells/*/model"))) == 4
    starts = [path.read_text().split(maxsplit=1)[1] for path in tmp_path.glob("cells/*/starts.txt")]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= 2:
        half = len(cores) // 2
        assert {start.rsplit(None, 1)[0] for start in starts} == {str(cores[:half]), str(cores[half:])}


def test_checkpoints_stay_when_asked_for(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "sweep.py",
            "seed=0",
            f"sweep_dir={tmp_path}",
            *FAKE,
            "keep_checkpoints=true",
            "keep_models=false",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("cells/*/checkpoints/20")) and not list(tmp_path.glob("cells/*/model"))


@pytest.mark.parametrize(
    "kills",
    [[3], *(pytest.param(kills, marks=pytest.mark.slow) for kills in ([0], [7, 12], [2, 6, 11, 19]))],
)
def test_sweep_killed_by_sigkill_and_resumed_equals_the_uninterrupted_one(tmp_path, uninterrupted, kills):
    """Killed when the first cell to get there has logged so many steps, again and again; then left alone."""
    for steps in kills:
        process = subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL)

        def far_enough(steps=steps, process=process):
            lines = [path.read_text().count("\n") for path in tmp_path.glob("cells/*/metrics.jsonl")]
            return process.poll() is not None or (len(states(tmp_path)) > 0 and max([0, *lines]) >= steps)

        wait_for(far_enough)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(tmp_path)
    assert results(tmp_path) == uninterrupted
    assert {state["state"] for state in states(tmp_path).values()} == {"finished"}


def test_nothing_of_a_cell_outlives_a_killed_sweep(tmp_path):
    """The cell has started a process in a session of its own, as distributed launchers do."""
    process = subprocess.Popen(command(tmp_path, "+child=1", "+pause=1"), cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("cells/*/metrics.jsonl"))) == 2)
    assert len(processes_naming(tmp_path)) >= 7  # the sweep, and twice: guard, trainer, child
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes_naming(tmp_path), seconds=20)


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path, uninterrupted):
    process = subprocess.Popen(
        command(tmp_path),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A suite started in the background of a script ignores Ctrl-C, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: len(results(tmp_path)) >= 1)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "same command goes on" in message
    assert not processes_naming(tmp_path)
    starts = {
        path: path.read_text()
        for path in tmp_path.glob("cells/*/starts.txt")
        if (path.parent / "summary.json").exists()
    }
    run(tmp_path)
    assert results(tmp_path) == uninterrupted
    assert all(path.read_text() == text for path, text in starts.items()), "a finished cell was run again"


def test_crashing_cell_is_recorded_with_its_log_and_the_others_go_on(tmp_path, uninterrupted):
    out = run(tmp_path, "+crash_at=13", "+crash_once=true", code=1)
    assert "crash at step 13" in out and "tries the 4 failed cells again" in out
    failed = states(tmp_path)["credit-uniform--seed-0"]
    assert (failed["state"], failed["returncode"], failed["attempts"]) == ("failed", 1, 1)
    assert failed["error"].endswith("RuntimeError: crash at step 13")
    run(tmp_path, "+crash_at=13", "+crash_once=true")  # the same command: resumed after the checkpoint of step 10
    assert {name: metrics for name, (_, metrics) in results(tmp_path).items()} == {
        name: metrics for name, (_, metrics) in uninterrupted.items()
    }
    assert states(tmp_path)["credit-uniform--seed-0"]["attempts"] == 2


def test_end_of_a_log_leaves_out_what_the_launcher_adds(tmp_path):
    """accelerate raises in its own process when a process it started fails."""
    reason = "Traceback (most recent call last):\n  File train.py\nValueError: the reason\n"
    launcher = (
        'Traceback (most recent call last):\n  File "site-packages/accelerate/commands/launch.py", line 999\n'
        "subprocess.CalledProcessError: Command '[...]' returned non-zero exit status 7.\n"
    )
    (tmp_path / "a.log").write_text(reason + launcher)
    assert tail(tmp_path / "a.log") == reason.rstrip()
    (tmp_path / "b.log").write_text(reason)
    assert tail(tmp_path / "b.log") == reason.rstrip()
    (tmp_path / "c.log").write_text(launcher)
    assert tail(tmp_path / "c.log") == launcher.rstrip()


def test_second_sweep_in_the_same_folder_is_refused_while_the_first_is_at_work(tmp_path):
    first = subprocess.Popen(
        command(tmp_path, "+pause=0.5"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(list(tmp_path.glob("cells/*/metrics.jsonl"))) == 2)
    assert "is at work" in run(tmp_path, "+pause=0.5", code=2)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 130


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused_and_overwrite_starts_again(tmp_path):
    run(tmp_path)
    assert "other settings" in run(tmp_path, "+steps=10", code=2)
    run(tmp_path, "+steps=10", "overwrite=true")
    assert all(metrics.count("\n") == 10 for _, metrics in results(tmp_path).values())


def test_overwrite_deletes_nothing_that_is_not_a_sweep(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    assert "not a sweep" in run(tmp_path, "overwrite=true", code=2)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
def test_sweep_grows_by_seeds_without_running_old_cells_again(tmp_path, uninterrupted):
    run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/starts.txt")}
    grown = [word.replace("seed=0,1", "seed=0,1,2") for word in command(tmp_path)]
    subprocess.run(grown, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert len(results(tmp_path)) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(json.loads((tmp_path / "sweep.json").read_text())["cells"]) == 6


def test_dry_run_starts_nothing_and_says_what_it_would_cost(tmp_path):
    folder = tmp_path / "sweeps" / "one"
    out = run(folder, "--dry-run")
    assert "4 cells, 0 finished, 4 to run, 2 at once" in out
    assert "20 steps, at most 0.0016 M generated tokens" in out and "unknown" in out
    assert not folder.exists()


@pytest.mark.slow
def test_shared_start_is_built_once_per_task_before_the_first_cell(tmp_path):
    arguments = ["credit=uniform,seq_norm,dr_grpo", "seed=0,1", "task=chain,doors", "jobs=2", f"sweep_dir={tmp_path}"]
    arguments += [word for word in FAKE if word != "check=false"]
    subprocess.run([sys.executable, "sweep.py", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert sorted((tmp_path / "build" / "builds.txt").read_text().split()) == ["chain", "doors"]


@pytest.mark.slow
def test_sweep_that_grows_by_a_task_builds_the_start_of_that_task_only(tmp_path):
    for tasks in ("chain,doors", "chain,doors,gsm8k"):
        arguments = [f"task={tasks}", "seed=0", f"sweep_dir={tmp_path}", *(w for w in FAKE if w != "check=false")]
        subprocess.run([sys.executable, "sweep.py", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "build" / "builds.txt").read_text().split() == ["chain", "doors", "gsm8k"]


def test_arm_that_does_not_compose_stops_the_sweep_before_any_cell(tmp_path):
    arguments = ["seed=0,1", "+bad=1", f"sweep_dir={tmp_path}", *(word for word in FAKE if word != "check=false")]
    done = subprocess.run(
        [sys.executable, "sweep.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "bad=1 is no setting" in done.stderr
    assert not list(tmp_path.glob("cells/*"))


def test_arms_that_compose_to_the_same_run_stop_the_sweep_before_any_cell(tmp_path):
    words = ["seed=0,1", f"sweep_dir={tmp_path}", *(word for word in FAKE if word != "check=false")]
    arguments = ["credit=uniform,seq_norm", "credit/weight=constant", *words]
    done = subprocess.run(
        [sys.executable, "sweep.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "compose to the same run" in done.stderr
    assert not list(tmp_path.glob("cells/*"))


def test_report_stands_at_the_end_of_a_sweep(tmp_path):
    out = run(tmp_path, "report={metric:reward}")
    assert "cannot be told apart" in out
    html = (tmp_path / "report" / "report.html").read_text()
    assert "sweep.py credit=uniform,seq_norm" in html and "data:image/png;base64," in html


@pytest.mark.slow
def test_cells_run_under_hydras_own_launcher(tmp_path, uninterrupted):
    run(tmp_path, "hydra/launcher=basic")
    assert results(tmp_path) == uninterrupted


@pytest.mark.slow
def test_cells_run_under_accelerate(tmp_path, uninterrupted):
    run(tmp_path, "launch.program=[accelerate,launch]", "launch.config=configs/accelerate/cpu.yaml")
    assert results(tmp_path) == uninterrupted
