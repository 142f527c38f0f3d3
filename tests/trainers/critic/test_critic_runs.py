"""`credit=value` as a command: what it leaves behind, and that a killed run resumes to the same bits, critic included."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from support.runs import LIVELY, SMALL, killed, lasting_rows, train
from trainers.critic.build import load_head

ONE = ["trainer.gradient_accumulation_steps=1", "trainer.gradient_checkpointing=false"]
SIZES = [each for each in SMALL if not each.startswith("model.")]
CHOICES = {
    "value": ["credit=value", "credit.critic.learning_rate=1e-2", "credit.spread.lambda_=0.95"],
    "decomposition": ["credit=decomposition"],
    "adapter": ["credit=value", "credit/critic=adapter", "model=hf", "model/peft=lora", *SIZES, *ONE],
    "separate": ["credit=value_prompt", "credit/critic=separate", "trainer.num_iterations=2"],
}


@pytest.mark.slow  # tests/trainers/seam/test_resume.py has the shortest of them
@pytest.mark.parametrize("case", CHOICES)
def test_a_killed_run_resumes_with_the_critic_it_had(case, tmp_path):
    small = SMALL
    if case == "adapter":
        train(*SMALL, "credit=dr_grpo", "trainer.max_steps=1", f"run_dir={tmp_path / 'base'}")
        small = [f"model.name={tmp_path / 'base' / 'model'}"]
    choices = [
        *small,
        *CHOICES[case],
        LIVELY,
        "trainer.max_steps=8",
        "trainer.save_steps=3",
        "trainer.learning_rate=1e-2",
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(*choices, f"run_dir={whole}")
    killed(*choices, f"run_dir={cut}", when=cut / "metrics.jsonl", rows=6)
    resumed = train(*choices, f"run_dir={cut}", "resume=true")
    assert "resuming after step" in resumed.stdout
    weights = "adapter_model.safetensors" if case == "adapter" else "model.safetensors"
    for name in (weights, "critic/critic.safetensors"):
        ours, theirs = (load_file(folder / "model" / name) for folder in (whole, cut))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
        assert all(ours[key].any() for key in ours if "lora_B" in key), f"{name}: nothing was learnt"
    assert not any("critic" in key or "readout" in key for key in load_file(whole / "model" / weights))
    assert lasting_rows(whole) == lasting_rows(cut)
    row = lasting_rows(whole)[2]
    assert {"critic/loss", "critic/explained_variance", "critic/value_start", "critic/noise_credit"} <= row.keys()
    facts = json.loads((whole / "model" / "critic" / "critic.json").read_text())
    if case == "decomposition":
        with pytest.raises(ValueError, match="no head"):
            load_head(whole / "model" / "critic")
    else:
        assert load_head(whole / "model" / "critic")(
            torch.zeros(1, 2, facts["width"]), torch.ones(1, 2).bool()
        ).shape == (
            1,
            2,
        )


def test_a_checkpoint_without_a_critic_is_refused(tmp_path):
    from trainers.critic.decomposition import DecompositionCritic

    critic = object.__new__(DecompositionCritic)
    with pytest.raises(ValueError, match="holds no critic"):
        critic.load(tmp_path)
    with pytest.raises(ValueError, match="holds no critic"):
        load_head(tmp_path)
