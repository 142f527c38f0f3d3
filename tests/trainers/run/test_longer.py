"""A finished run that goes on to more steps ends with the bits of one that was meant to be as long from the start."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from support.runs import LIVELY, SMALL, lasting_rows
from trainers.command.cli import compose_command
from trainers.run import grpo, likelihood

TINY = [
    "model.hidden=16",
    "model.layers=1",
    "model.heads=2",
    "model.intermediate=16",
    "trainer.use_cpu=true",
    "probe=0",
]
TEXTS = [*TINY, "task.n_train=40", "trainer.per_device_train_batch_size=8", "show=0"]
CASES = {
    "grpo": (grpo.run_grpo, "train_grpo", [*SMALL, LIVELY, "trainer.use_cpu=true"], "trainer.max_steps", (3, 5)),
    # a batch of rollouts lasts two steps: the checkpoint after step 3 stands amid one
    "grpo, amid rollouts": (
        grpo.run_grpo,
        "train_grpo",
        [*SMALL, LIVELY, "trainer.use_cpu=true", "trainer.steps_per_generation=2", "trainer.save_steps=1", "credit=value"],
        "trainer.max_steps",
        (3, 6),
    ),
    "sft, epochs": (
        likelihood.run_sft,
        "train_sft",
        [*TEXTS, "trainer.lr_scheduler_type=constant", "trainer.warmup_steps=0", "trainer.max_steps=-1"],
        "trainer.num_train_epochs",
        (1, 2),
    ),
    "lhts": (likelihood.run_lhts, "train_lhts", [*TEXTS, "tau=0.6", "max_new_tokens=8", "model.pretrain.steps=2"],
             "trainer.max_steps", (2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", ["grpo", *(pytest.param(case, marks=pytest.mark.slow) for case in list(CASES)[1:])])
def test_a_run_made_longer_has_the_bits_of_the_longer_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    run, verb, given, length, (short, long) = CASES[name]
    grpo.register_schema()
    likelihood.register_schema()
    for folder, steps, more in (("whole", long, []), ("grown", short, []), ("grown", long, ["resume=true"])):
        run(compose_command(verb, [*given, f"{length}={steps}", f"run_dir={tmp_path / folder}", *more]))
    assert "resuming after step" in capsys.readouterr().out
    weights = [load_file(tmp_path / folder / "model/model.safetensors") for folder in ("whole", "grown")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    rows = [lasting_rows(tmp_path / folder) for folder in ("whole", "grown")]
    assert rows[0] == rows[1]
    starts = [
        json.loads(line)["after_step"] for line in (tmp_path / "grown" / "started.jsonl").read_text().splitlines()
    ]
    assert len(starts) == 2 and starts[0] == 0 < starts[1]
