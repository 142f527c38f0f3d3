"""A run of train_sft.py or train_lhts.py that dies between checkpoints and is resumed ends with the bits of one that
was not stopped."""

import json

import pytest
import torch
from safetensors.torch import load_file

from trainers.command.cli import compose_command
from trainers.run import likelihood as module
from trainers.run.likelihood import register_schema, run_lhts, run_sft

TINY = ["model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=16", "task.n_train=64"]
SHORT = ["trainer.max_steps=5", "trainer.save_steps=2", "trainer.per_device_train_batch_size=8", "trainer.use_cpu=true"]
VERBS = {
    "sft": (run_sft, "train_sft", ["weight=seq_mean", "trainer.gradient_accumulation_steps=2"]),
    "lhts": (run_lhts, "train_lhts", ["tau=0.6", "max_new_tokens=12", "model.pretrain.steps=2"]),
    "lhts over a range of tau": (run_lhts, "train_lhts", ["tau=[0.5,1.0]", "max_new_tokens=12", "model.pretrain.steps=2"]),
}  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", VERBS)
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    register_schema()
    run, verb, own = VERBS[name]
    given = [*TINY, *SHORT, *own, "probe=0", "show=0"]
    run(compose_command(verb, [*given, f"run_dir={tmp_path}/whole"]))

    on_log = module.MetricsFile.on_log

    def dying(self, args, state, control, logs=None, **kwargs):
        if state.global_step == 4:  # its checkpoint is not written yet
            raise Killed
        return on_log(self, args, state, control, logs=logs, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.MetricsFile, "on_log", dying)
        run(compose_command(verb, [*given, f"run_dir={tmp_path}/cut"]))
    with pytest.raises(ValueError, match="resume=true"):
        run(compose_command(verb, [*given, f"run_dir={tmp_path}/cut"]))
    capsys.readouterr()
    run(compose_command(verb, [*given, f"run_dir={tmp_path}/cut", "resume=true"]))
    shown = capsys.readouterr().out
    assert "resuming after step 2" in shown and "step    1/5" not in shown and "step    5/5" in shown

    weights = [load_file(tmp_path / folder / "model/model.safetensors") for folder in ("whole", "cut")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    losses = [
        [row["loss"] for row in map(json.loads, (tmp_path / folder / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
        for folder in ("whole", "cut")
    ]  # fmt: skip
    assert len(losses[0]) == 5 and losses[0] == losses[1]
