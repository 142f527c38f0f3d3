"""Every shipped strategy plays the game of experiment=agents for a step, or says before it what it lacks there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from configs.compose import ConfigError
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema, run_grpo

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(file.stem for file in (ROOT / "configs" / "credit").glob("*.yaml"))
LACKS = {
    "a2po": "no column 'offline_rewards'.*Give each row the rewards",
    "igpo": "no column 'answer'.*Name the column",
    "opd": "Set credit.teacher.name=",
}
"""What the game has not got, and the remedy that is named."""
SMALL = [
    *("model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("model.pretrain.steps=30", "model.pretrain.batch=8", "task.count=3", "task.n_train=16", "task.n_eval=0"),
    *("trainer.per_device_train_batch_size=8", "trainer.num_generations=4", "trainer.max_completion_length=24"),
    *("trainer.max_tool_calling_iterations=3", "trainer.max_steps=1", "trainer.save_strategy=no", "show=0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_plays_the_agents_game_or_names_what_it_lacks(tmp_path, name):
    pytest.importorskip("jmespath")
    register_schema()

    def run():
        run_grpo(compose_command("train_grpo", ["experiment=agents", f"credit={name}", f"run_dir={tmp_path}", *SMALL]))

    if name in LACKS:
        with pytest.raises((ConfigError, ValueError), match=re.compile(LACKS[name], re.DOTALL)):
            run()
        return
    run()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("credit/turns", 0) > 1 for row in rows) and all(row.get("loss") != "nan" for row in rows)


def test_what_a_strategy_lacks_is_said_of_those_that_there_are():
    assert set(LACKS) < set(NAMES)
