"""A run that is killed and resumed ends with the very bits of the run that was not, its critic too."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from support.runs import LIVELY, SMALL, lasting_rows

# Off-policy too: two passes over each generation batch, so that step 3 is no place to resume from.
TWICE = ["trainer.num_iterations=2", "trainer.gradient_accumulation_steps=2"]


@pytest.mark.parametrize("extra", [[], pytest.param(TWICE, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_bits(extra, server, tmp_path):
    choices = [
        *SMALL,
        LIVELY,
        "credit=value",
        "credit.critic.learning_rate=1e-2",
        "task.n_train=8",  # epochs of 4 steps: resumed in the second
        "trainer.max_steps=8",
        "trainer.save_steps=3",
        "trainer.learning_rate=1e-2",
        *extra,
    ]
    whole, cut, metrics = tmp_path / "whole", tmp_path / "cut", tmp_path / "cut" / "metrics.jsonl"
    server.train(*choices, f"run_dir={whole}")

    def doom():
        return metrics.exists() and len(metrics.read_text().splitlines()) >= 7

    assert server.live("train_grpo.py", [*choices, f"run_dir={cut}"], tmp_path / "log", doom) == -9
    assert not (cut / "summary.json").exists()
    again = server.train(*choices, f"run_dir={cut}", check=False)
    assert again.returncode == 2 and "resume=true" in again.stderr
    resumed = server.train(*choices, f"run_dir={cut}", "resume=true")
    assert "resuming after step" in resumed.stdout
    assert all(row["grad_norm"] > 0 for row in lasting_rows(whole) if "grad_norm" in row), "nothing was learned"
    for name in ("model.safetensors", "critic/critic.safetensors"):
        ours, theirs = (load_file(folder / "model" / name) for folder in (whole, cut))
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in ours)
    assert lasting_rows(whole) == lasting_rows(cut)


def test_a_run_killed_in_its_last_evaluation_does_its_last_steps_again_and_not_one_more(server, tmp_path):
    """The checkpoint of the last step is there, summary.json is not. transformers would train step 5 from it."""
    choices = [*SMALL, LIVELY, "credit=dr_grpo", "trainer.max_steps=4", "trainer.save_steps=2", f"run_dir={tmp_path}"]
    server.train(*choices)
    before = lasting_rows(tmp_path), load_file(tmp_path / "model" / "model.safetensors")
    assert (tmp_path / "checkpoints" / "checkpoint-4").is_dir()
    (tmp_path / "summary.json").unlink()
    assert "resuming after step 2" in server.train(*choices, "resume=true").stdout
    after = lasting_rows(tmp_path), load_file(tmp_path / "model" / "model.safetensors")
    assert before[0] == after[0]
    assert all((before[1][name] == after[1][name]).all() for name in before[1])
