"""A run of train_grpo.py as a process of its own, stopped once its smoothed reward has reached a target."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SMOOTH = 10  # optimiser steps the reward is averaged over


def train_until(overrides: list[str], steps: int, target: float, smooth: int = SMOOTH) -> list[dict]:
    """The run's rows of metrics.jsonl, one for each optimiser step, up to `steps` or a little beyond the target, which the mean
    reward of `smooth` steps has to reach.

    Raises:
        RuntimeError: the run wrote no row; with the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train_grpo.py"), *overrides, f"run_dir={folder}/run"]
        command += [f"trainer.max_steps={steps}", "trainer.eval_on_start=false", "trainer.save_strategy=no"]
        log, file = Path(folder) / "log", Path(folder) / "run" / "metrics.jsonl"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "show=0", "record.every=0"], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                while process.poll() is None:
                    time.sleep(1)
                    if reached([row["reward"] for row in rows_of(file)], target, smooth) is not None:
                        process.terminate()
                        break
            except BaseException:
                process.terminate()
                raise
            finally:
                process.wait()
        rows = rows_of(file)
        if not rows:
            raise RuntimeError(log.read_text()[-3000:])
        return rows


def reached(rewards: list[float], target: float, smooth: int = SMOOTH) -> int | None:
    """First step (from 0) at which the mean of the last `smooth` rewards is at least `target`."""
    ends = range(smooth, len(rewards) + 1)
    return next((end - 1 for end in ends if statistics.fmean(rewards[end - smooth : end]) >= target), None)


def rows_of(file: Path) -> list[dict]:
    """Training rows of a metrics.jsonl that is still being written."""
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # half written
        if "reward" in row:
            rows.append(row)
    return rows
