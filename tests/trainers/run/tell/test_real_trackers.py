"""The trackers themselves, where they are installed: what reached their files."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest

from support.runs import LIVELY, ROOT, SMALL, environment

WANTED = ("train/kl", "train/credit/mass", "train/generated_tokens", "final/final_reward")


def tracked(name: str, folder, **env) -> None:
    pytest.importorskip(name)
    words = [*SMALL, LIVELY, "credit=dr_grpo", "trainer.max_steps=2", "trainer.beta=0.1", f"trainer.report_to={name}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_grpo.py"), *words, "run_dir=run"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(ROOT)} | env,
    )
    assert done.returncode == 0 and "was not told" not in done.stderr and "dropped" not in done.stderr, done.stderr[
        -3000:
    ]
    assert "failed_after_training" not in json.loads((folder / "run" / "summary.json").read_text())


@pytest.mark.slow
def test_tensorboard(tmp_path):
    tracked("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(WANTED) <= set(tags["scalars"])
    assert {"apportion/text_summary", "apportion/strategy/text_summary", "final/table/text_summary"} <= set(
        tags["tensors"]
    )


@pytest.mark.slow
def test_mlflow(tmp_path):
    store = f"sqlite:///{tmp_path}/store.db"
    tracked("mlflow", tmp_path, MLFLOW_TRACKING_URI=store)
    import mlflow

    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("apportion")
    (run,) = client.search_runs([experiment.experiment_id])
    assert {name.removeprefix("train/") for name in WANTED} <= set(run.data.metrics)
    assert (
        run.data.params["apportion.members.weight"] == "constant" and run.data.tags["apportion.strategy"] == "dr_grpo"
    )
    assert run.info.run_name.startswith("chain/dr_grpo--")
    assert {"apportion.json", "final_table.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_trackio(tmp_path):
    tracked("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    with sqlite3.connect(tmp_path / "trackio" / "apportion.db") as store:
        text = str(store.execute("select * from configs").fetchall()) + str(
            store.execute("select * from metrics").fetchall()
        )
    assert all(word in text for word in (*WANTED, "final/table", '"strategy":"dr_grpo"'))


@pytest.mark.slow
def test_wandb(tmp_path):
    tracked("wandb", tmp_path, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert all(word.encode() in content for word in (*WANTED, "final/table", "chain/dr_grpo--", '"strategy"'))
