"""The whole path of a task of reasoning-gym: rows, warm start on bytes, its scorer as reward, GRPO, held-out questions."""

import json

import pytest

from support.runs import train

pytest.importorskip("reasoning_gym")


@pytest.mark.slow
def test_the_embedded_model_learns_to_spell_backward(tmp_path):
    """About four minutes of one core, half of them the warm start, which is cached."""
    train("experiment=reasoning_gym", f"run_dir={tmp_path / 'run'}", "show=1")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_reward_after"] > summary["eval_reward_before"] + 0.05
