"""Sweeps of real, very small training runs: interrupted anywhere, resumed, crashed; the shared start; several ranks."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from safetensors.torch import load_file

from support.runs import LIVELY, ROOT, SMALL

pytestmark = pytest.mark.slow

TINY = [*SMALL, LIVELY, "trainer.max_steps=6", "trainer.save_steps=2", "trainer.learning_rate=1e-2", "record.every=2"]
VOLATILE = ("time", "seconds", "runtime", "per_second")


def sweep(folder, *more):
    return [sys.executable, "sweep.py", "credit=uniform,seq_norm", "seed=0,1", "jobs=2", f"sweep_dir={folder}", *TINY,
            *more]  # fmt: skip


def environment(cache):
    return os.environ | {"ACCELERATE_USE_CPU": "true", "TQDM_DISABLE": "1", "APPORTION_CACHE": str(cache)}


def finish(arguments, cache, code=0):
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=580, env=environment(cache))
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def results(folder):
    """Per cell: metrics but for times, summary but for times and places, and every weight."""
    found = {}
    for summary in sorted(folder.glob("cells/*/summary.json")):
        rows = [json.loads(line) for line in (summary.parent / "metrics.jsonl").read_text().splitlines()]
        rows = [{k: v for k, v in row.items() if not any(word in k for word in VOLATILE)} for row in rows]
        facts = {k: v for k, v in json.loads(summary.read_text()).items() if k not in ("overrides", "versions")}
        facts = {k: v for k, v in facts.items() if not any(word in k for word in VOLATILE)}
        weights = load_file(summary.parent / "model" / "model.safetensors")
        found[summary.parent.name] = (rows, facts, {name: value.tolist() for name, value in weights.items()})
    return found


def states(folder):
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("state/*.json")}


def lines(folder):
    return [path.read_text().count("\n") for path in folder.glob("cells/*/metrics.jsonl")]


def processes_naming(folder):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ()) and process.pid != os.getpid()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep that nobody interrupted, with the cache it made."""
    folder = tmp_path_factory.mktemp("whole")
    finish(sweep(folder / "sweep"), folder / "cache")
    return folder


# Where a sweep may die: while it builds the shared start, while cells load, train, have just saved, have just finished.
POINTS = {
    "building": lambda folder: processes_naming(folder / "build"),
    "loading": lambda folder: "running" in {state["state"] for state in states(folder).values()},
    "training": lambda folder: max([0, *lines(folder)]) >= 2,
    "saved": lambda folder: any(folder.glob("cells/*/checkpoints/checkpoint-*")),
    "finished": lambda folder: any(folder.glob("cells/*/summary.json")),
    "last": lambda folder: len(list(folder.glob("cells/*/summary.json"))) >= 3 and max(lines(folder)[-2:]) >= 2,
}


@pytest.mark.parametrize(
    "blows",
    [
        [("building", "KILL"), ("loading", "KILL"), ("saved", "KILL"), ("finished", "KILL"), ("last", "KILL")],
        [("training", "INT"), ("finished", "INT")],
    ],
    ids=["SIGKILL", "Ctrl-C"],
)
def test_interrupted_sweep_ends_with_the_very_numbers_of_the_one_left_alone(blows, whole, tmp_path):
    folder = tmp_path / "sweep"
    for point, blow in blows:
        process = subprocess.Popen(
            sweep(folder),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(tmp_path / "cache"),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        until = time.monotonic() + 500
        while not POINTS[point](folder):
            assert process.poll() is None and time.monotonic() < until, f"never got to {point}"
            time.sleep(0.02)
        process.send_signal(getattr(signal, f"SIG{blow}"))
        assert process.wait() == (130 if blow == "INT" else -signal.SIGKILL)
        if blow == "INT":
            assert not processes_naming(folder)
    finish(sweep(folder), tmp_path / "cache")
    for name, (rows, facts, weights) in results(whole / "sweep").items():
        assert all(row["grad_norm"] > 0 for row in rows if "grad_norm" in row), "nothing was learned"
        assert results(folder)[name] == (rows, facts, weights), name
    assert results(folder).keys() == results(whole / "sweep").keys()
    assert {state["state"] for state in states(folder).values()} == {"finished"}
    runs = list(csv.DictReader((folder / "report" / "runs.csv").open()))
    assert sorted((run["arm"], run["seed"]) for run in runs) == [
        (arm, seed) for arm in ("seq_norm", "uniform") for seed in ("0", "1")
    ]


def test_cells_are_paired_counted_and_bounded(whole):
    """Same weights, prompts and order for the same seed, whatever the strategy; one start for all; no checkpoints."""
    folder = whole / "sweep"
    cells = {name: rows for name, (rows, _, _) in results(folder).items()}
    for seed in (0, 1):
        one, other = (cells[f"credit-{arm}--seed-{seed}"] for arm in ("uniform", "seq_norm"))
        # Nothing has been learned before the first evaluation and the first batch: the same to the last bit.
        assert one[0] == other[0] and "eval_reward" in one[0]
        same = [key for key in one[1] if not key.startswith(("credit/", "loss", "grad_norm"))]
        assert {key: one[1][key] for key in same} == {key: other[1][key] for key in same}
        prompts = [
            [row["num_tokens"] - row["generated_tokens"] for row in rows if "reward" in row] for rows in (one, other)
        ]
        assert prompts[0] == prompts[1], "other prompts, or another order"
    assert cells["credit-uniform--seed-0"][1]["reward"] != cells["credit-uniform--seed-1"][1]["reward"]
    assert len(list((whole / "cache").rglob("model.safetensors"))) == 1
    assert not list(folder.glob("cells/*/checkpoints"))
    assert list(folder.glob("cells/*/records/step*.parquet"))


def test_crashing_arm_is_recorded_and_the_other_goes_on(whole, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os, sys\n"
        "def good(prompts, completions, **columns):\n    return [0.5 for _ in prompts]\n"
        "def fatal(prompts, completions, trainer_state=None, **columns):\n"
        "    if trainer_state.global_step == 3:\n"
        "        print('the reward server is gone', file=sys.stderr, flush=True)\n        os._exit(7)\n"
        "    return [0.5 for _ in prompts]\n"
    )
    choices = f"reward.funcs=[{tmp_path}/mine.py:good],[{tmp_path}/mine.py:fatal]"
    tiny = [word for word in TINY if word != LIVELY]
    arguments = [
        sys.executable,
        "sweep.py",
        choices,
        "seed=0",
        "check=false",
        "jobs=2",
        f"sweep_dir={tmp_path}/sweep",
        *tiny,
    ]
    out = finish(arguments, whole / "cache", code=1)
    assert "tries the failed cell again" in out and "the reward server is gone" in out
    failed = [state for state in states(tmp_path / "sweep").values() if state["state"] == "failed"]
    assert len(failed) == 1 and "the reward server is gone" in failed[0]["error"]
    assert len(results(tmp_path / "sweep")) == 1
    assert "fatal" in (tmp_path / "sweep" / "report" / "report.md").read_text()


def test_cells_of_two_processes_each_run_side_by_side(whole, tmp_path):
    arguments = sweep(tmp_path / "sweep", "launch.config=configs/accelerate/cpu_2.yaml")
    finish(arguments, whole / "cache")
    summaries = [facts for _, facts, _ in results(tmp_path / "sweep").values()]
    assert len(summaries) == 4 and {facts["world_size"] for facts in summaries} == {2}
