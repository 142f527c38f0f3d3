"""A run whose reward raises on some rows, returns NaN on others and hangs on a few ends normally, and trains as if
those rows had been None; on one process and on two."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

HERE = Path(__file__).resolve().parent


@cache
def records(mode, processes):
    folder = mkdtemp()
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "0"]
        launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    command = [*launcher, str(HERE / "misbehaving_run.py"), mode, folder]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=HERE.parents[1])
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(Path(folder, f"record{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_bad_rows_train_as_if_they_were_none_and_are_counted(processes):
    bad, clean = records("misbehave", processes), records("abstain", processes)
    for mine, reference in zip(bad, clean, strict=True):
        fates, counts = reference["fates"], mine["counts"]
        assert mine["digest"] == reference["digest"] and mine["reward"] == reference["reward"]
        assert (counts["exception"], counts["not_finite"], counts["timeout"]) == (
            fates["raise"],
            fates["nan"],
            fates["hang"],
        )
        assert reference["counts"]["abstained"] == fates["raise"] + fates["nan"] + fates["hang"] > 0
        assert mine["seconds"] < 100
    rows = sum(record["counts"]["rows"] for record in bad)
    failed = sum(sum(record["counts"][kind] for kind in ("exception", "not_finite", "timeout")) for record in bad)
    share = sum(bad[0]["failed"]) / len(bad[0]["failed"])
    assert share == pytest.approx(failed / rows)
    assert sum(record["fates"]["hang"] for record in clean) > 0


@pytest.mark.slow
def test_an_async_reward_misbehaves_to_the_same_end():
    (mine,), (reference,) = records("async", 1), records("abstain", 1)
    assert mine["digest"] == reference["digest"]
    assert mine["counts"]["timeout"] == reference["fates"]["hang"]


@pytest.mark.slow
def test_stock_grpo_trainer_takes_a_guarded_reward():
    (mine,) = records("stock", 1)
    assert mine["stopped"] is None and mine["counts"]["rows"] == 96 and mine["counts"]["timeout"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_reward_that_fails_on_one_process_only_stops_all_of_them_with_the_reason(processes):
    for record in records("fail", processes):
        assert "'letter_a' fails too often" in record["stopped"] and "max_failed_share" in record["stopped"]
