"""Ctrl-C ends a run with one sentence and the command that goes on; a launcher of ours adds nothing to how a run ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from support.runs import LIVELY, ROOT, SMALL, command, environment
from trainers.command import cli, launch
from trainers.run.ending import Ending


def test_the_sentence_says_how_far_it_was_and_from_where_it_goes_on(tmp_path):
    trainer = SimpleNamespace(
        callback_handler=SimpleNamespace(),
        state=SimpleNamespace(global_step=7, max_steps=9),
        args=SimpleNamespace(output_dir=str(tmp_path)),
    )

    def stopped():
        with pytest.raises(KeyboardInterrupt) as caught, Ending(trainer, tmp_path).part("curves.png"):
            raise KeyboardInterrupt
        return str(caught.value)

    assert stopped() == "after step 7 of 9; no checkpoint was written, and this starts again"
    for step in (4, 6, 9):  # the last one is none to go on from
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "complete").touch()
    (tmp_path / "checkpoint-8").mkdir()
    assert stopped() == "after step 7 of 9; this goes on from step 6"


@pytest.mark.parametrize(
    "raised, status",
    [
        (None, 0),
        (subprocess.CalledProcessError(3, ["python"]), 3),
        (subprocess.CalledProcessError(-9, ["python"]), 137),
        (SignalException("stopped", sigval=signal.SIGINT), 130),
        (ChildFailedError("run", {0: ProcessFailure(local_rank=0, pid=1, exitcode=3, error_file="")}), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_status_of_a_run_is_that_of_its_launcher(raised, status, monkeypatch):
    seen = []

    def launched(args):
        seen.append((args.num_processes, args.module, args.training_script, args.training_script_args))
        if raised is not None:
            raise raised

    monkeypatch.setattr(launch, "launch_command", launched)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["apportion launch", "--num_processes", "2", "train_sft", "weight=seq_mean"])
    assert launch.main() == status
    assert seen == [(2, True, "apportion.train_sft", ["weight=seq_mean"])]


def test_a_command_that_keeps_no_checkpoint_starts_again(monkeypatch):
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "trainers.loop", "credit=spans"])
    assert cli._stopped("loop", KeyboardInterrupt()).startswith(
        "stopped; again from the start: python -m trainers.loop"
    )


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_at_a_terminal(ranks, tmp_path):
    words = [*SMALL, LIVELY, "trainer.max_steps=4000", "trainer.save_steps=2", f"run_dir={tmp_path}/run"]
    given = command(*words)
    if ranks > 1:
        accelerate = ["--config_file", str(ROOT / "configs" / "accelerate" / "cpu_2.yaml")]
        given = [sys.executable, "-m", "apportion", "launch", *accelerate, "train_grpo", *words]
    process = subprocess.Popen(
        given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 5):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said
    stopped = re.search(r"train_grpo.py: stopped after step \d+ of 4000; this goes on from step (\d+): (.*)", said)
    assert stopped and int(stopped[1]) >= 2 and stopped[2].endswith(" resume=true")
