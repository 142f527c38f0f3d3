"""Two processes fine-tune as one does, baseline included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.ranks.lhts import run

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_two_processes_have_the_baseline_and_the_parameters_of_one(tmp_path):
    out = tmp_path / "two.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=localhost:0", str(ROOT / "tests/support/ranks/lhts.py"), str(tmp_path / "runs")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [*command, str(out)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (two, two_sums), (one, one_sums) = torch.load(out), run(tmp_path / "one", ranks=1)
    assert (two - one).abs().max() < 1e-6
    assert torch.allclose(two_sums, one_sums, atol=1e-4)
