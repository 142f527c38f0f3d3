"""FSDP2, ZeRO-2 and ZeRO-3 on two gloo processes train what DDP trains, critic included, and resume to the same bits.

ZeRO needs DeepSpeed (`DS_BUILD_OPS=0 pip install deepspeed`) and a C++ compiler; skipped without. DeepSpeed reaches a CPU by
`trainer.ddp_backend=gloo`, without which accelerate takes such a run for one of a single process; FSDP2 by fsdp_rank_run.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from support.runs import LIVELY, ROOT, SMALL, environment, lasting_rows, train

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
CHOICES = [*SMALL, LIVELY, "trainer.max_steps=4", "trainer.save_steps=2", "trainer.learning_rate=1e-2"]
CHOICES += ["trainer.gradient_accumulation_steps=2", "trainer.adam_epsilon=1e-4"]
CRITICS = {
    "head": ["credit=value", "credit.critic.learning_rate=1e-2"],
    "trunk": ["credit=value", "credit.critic.detach=false"],
    "decomposition": ["credit=decomposition"],
    "ridge": ["credit=value", "credit/critic=ridge"],
    "separate": ["credit=value", "credit/critic=separate"],
    "none": ["credit=seq_norm"],
}


KINDS = [
    pytest.param("fsdp2", marks=pytest.mark.slow),
    pytest.param("zero2", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("zero3", marks=[pytest.mark.slow, needs_deepspeed]),
]


def sharded(kind: str, folder: Path, *overrides: str) -> str:
    """Trains on two processes with the launch file of this name; returns the output."""
    file = folder.parent / f"{kind}.yaml"
    config = yaml.safe_load((ROOT / "configs" / "accelerate" / f"{kind}.yaml").read_text())
    file.write_text(yaml.safe_dump(config | {"num_processes": 2, "mixed_precision": "no"}))
    script = "tests/support/ranks/fsdp.py" if kind == "fsdp2" else "train_grpo.py"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    command += ["--main_process_port", "0", script, "trainer.ddp_backend=gloo", f"run_dir={folder}"]
    settings = environment() | {"DS_ACCELERATOR": "cpu"}
    del settings["ACCELERATE_USE_CPU"]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=400, env=settings, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "critic", [each if each == "head" else pytest.param(each, marks=pytest.mark.slow) for each in CRITICS]
)
def test_a_policy_dealt_out_is_trained_as_under_ddp(critic, kind, tmp_path):
    choices = [*CHOICES, *CRITICS[critic]]
    if critic == "separate" and kind == "zero3":  # a copy of the policy is not to be had where it is dealt out
        train(*CHOICES, "credit=dr_grpo", "trainer.max_steps=1", f"run_dir={tmp_path / 'base'}")
        choices += [f"credit.critic.model={tmp_path / 'base' / 'model'}"]
    train(*choices, f"run_dir={tmp_path / 'ddp'}", ranks=2)
    output = sharded(kind, tmp_path / "sharded", *choices)
    assert "32 completions a step = 2 process(es)" in output
    parameters = [json.loads((tmp_path / run / "summary.json").read_text())["parameters"] for run in ("ddp", "sharded")]
    assert parameters[0] == parameters[1] > 0
    for name in ("model.safetensors", "critic/critic.safetensors")[: 1 if critic == "none" else 2]:
        ours, theirs = (load_file(tmp_path / run / "model" / name) for run in ("sharded", "ddp"))
        assert ours.keys() >= theirs.keys()  # some write tied weights twice
        for key, value in theirs.items():
            assert torch.allclose(ours[key], value, rtol=1e-4, atol=1e-6), (name, key)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_dealt_out_resumes_to_the_same_bits(kind, tmp_path):
    choices = [*CHOICES, *CRITICS["head"]]
    sharded(kind, tmp_path / "whole", *choices)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "model")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-4")
    os.unlink(tmp_path / "cut" / "summary.json")
    assert "resuming after step 2" in sharded(kind, tmp_path / "cut", *choices, "resume=true")
    for name in ("model.safetensors", "critic/critic.safetensors"):
        ours, theirs = (load_file(tmp_path / run / "model" / name) for run in ("cut", "whole"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert lasting_rows(tmp_path / "cut") == lasting_rows(tmp_path / "whole")
