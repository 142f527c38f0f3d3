"""ZeRO-2 and ZeRO-3 on two gloo processes train what DDP trains, critic included, and resume to the same bits.

Needs DeepSpeed (`DS_BUILD_OPS=0 pip install deepspeed`) and a C++ compiler; skipped without. A CPU is reached by
`trainer.ddp_backend=gloo`, without which accelerate takes such a run for one of a single process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from runs import LIVELY, ROOT, SMALL, environment, lasting_rows, train
from safetensors.torch import load_file

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.slow

CHOICES = [*SMALL, LIVELY, "trainer.max_steps=4", "trainer.save_steps=2", "trainer.learning_rate=1e-2"]
CHOICES += ["trainer.gradient_accumulation_steps=2", "trainer.adam_epsilon=1e-4"]
CRITICS = {
    "head": ["credit=value", "credit.critic.learning_rate=1e-2"],
    "trunk": ["credit=value", "credit.critic.detach=false"],
    "decomposition": ["credit=value_sum"],
    "ridge": ["credit=value", "credit/critic=ridge"],
    "separate": ["credit=value", "credit/critic=separate"],
    "none": ["credit=seq_norm"],
}


def zero(stage: int, folder, *overrides: str) -> str:
    file = folder.parent / f"zero{stage}.yaml"
    config = yaml.safe_load((ROOT / "configs" / "accelerate" / f"zero{stage}.yaml").read_text())
    file.write_text(yaml.safe_dump(config | {"num_processes": 2, "mixed_precision": "no"}))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), "train_grpo.py"]
    settings = environment() | {"DS_ACCELERATOR": "cpu"}
    del settings["ACCELERATE_USE_CPU"]
    done = subprocess.run(
        [*command, *overrides, "trainer.ddp_backend=gloo", f"run_dir={folder}"],
        capture_output=True,
        text=True,
        timeout=400,
        env=settings,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("critic", CRITICS)
def test_zero_trains_what_ddp_trains(critic, stage, tmp_path):
    choices = [*CHOICES, *CRITICS[critic]]
    if critic == "separate" and stage == 3:  # a copy of the policy is not to be had where it is dealt out
        train(*CHOICES, "credit=dr_grpo", "trainer.max_steps=1", f"run_dir={tmp_path / 'base'}")
        choices += [f"credit.critic.model={tmp_path / 'base' / 'model'}"]
    train(*choices, f"run_dir={tmp_path / 'ddp'}", ranks=2)
    output = zero(stage, tmp_path / "zero", *choices)
    assert "32 completions a step = 2 process(es)" in output
    parameters = [json.loads((tmp_path / run / "summary.json").read_text())["parameters"] for run in ("ddp", "zero")]
    assert parameters[0] == parameters[1] > 0
    for name in ("model.safetensors", "critic/critic.safetensors")[: 1 if critic == "none" else 2]:
        ours, theirs = (load_file(tmp_path / run / "model" / name) for run in ("zero", "ddp"))
        assert ours.keys() >= theirs.keys()  # ZeRO-2 writes tied weights twice
        for key, value in theirs.items():
            assert torch.allclose(ours[key], value, rtol=1e-4, atol=1e-6), (name, key)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_under_zero_resumes_to_the_same_bits(stage, tmp_path):
    choices = [*CHOICES, *CRITICS["head"]]
    zero(stage, tmp_path / "whole", *choices)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "model")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-4")
    os.unlink(tmp_path / "cut" / "summary.json")
    assert "resuming after step 2" in zero(stage, tmp_path / "cut", *choices, "resume=true")
    for name in ("model.safetensors", "critic/critic.safetensors"):
        ours, theirs = (load_file(tmp_path / run / "model" / name) for run in ("cut", "whole"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert lasting_rows(tmp_path / "cut") == lasting_rows(tmp_path / "whole")
