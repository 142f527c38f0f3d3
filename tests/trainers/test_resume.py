"""A run that is killed and resumed ends with the very bits of the run that was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import SMALL, killed, train
from safetensors.torch import load_file

VOLATILE = ("time", "seconds", "runtime", "per_second")


def rows(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not any(word in k for word in VOLATILE)} for row in found]


# Off-policy too: two passes over each generation batch, so that step 3 is no place to resume from.
@pytest.mark.parametrize("extra", [[], ["trainer.num_iterations=2", "trainer.gradient_accumulation_steps=2"]])
def test_a_killed_run_resumes_to_the_same_bits(extra, tmp_path):
    choices = [
        *SMALL,
        "credit=dr_grpo",
        "trainer.max_steps=8",
        "trainer.save_steps=3",
        "trainer.learning_rate=1e-2",
        *extra,
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(*choices, f"run_dir={whole}")
    killed(*choices, f"run_dir={cut}", when=cut / "metrics.jsonl", rows=7)
    assert not (cut / "summary.json").exists()
    again = train(*choices, f"run_dir={cut}", check=False)
    assert again.returncode == 2 and "resume=true" in again.stderr
    resumed = train(*choices, f"run_dir={cut}", "resume=true")
    assert "resuming after step" in resumed.stdout
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert rows(whole) == rows(cut)
