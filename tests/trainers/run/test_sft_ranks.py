"""Two processes train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.ranks.sft import run

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_two_processes_and_any_accumulation_give_the_parameters_of_one(tmp_path):
    out = tmp_path / "two.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
    }
    script = [str(ROOT / "tests/support/ranks/sft.py"), str(tmp_path / "runs"), str(out)]
    done = subprocess.run(
        [*command, *script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = torch.load(out), run(tmp_path / "one", ranks=1)
    for name, accumulation in one:
        ours, losses = two[name, accumulation]
        alone, own = one[name, 1]
        assert (ours - alone).abs().max() < 1e-6, (name, accumulation)
        assert losses == pytest.approx(own, rel=1e-5)
