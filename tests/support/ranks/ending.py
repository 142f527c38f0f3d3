"""Two gloo ranks, one of which fails after training: python ending_ranks.py FOLDER WHERE (see test_ending.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from support.runs import SMALL
from trainers.command.cli import compose_command
from trainers.grpo import CreditGRPOTrainer
from trainers.run import grpo as run
from trainers.run.progress import MetricsFile

folder, where = sys.argv[1:]
failing = int(os.environ["RANK"]) == (1 if "other" in where else 0)


def fails(*args, **kwargs):
    raise RuntimeError("on this rank only")


if failing and where == "callback":
    on_log = MetricsFile.on_log
    MetricsFile.on_log = lambda self, args, state, *rest, **named: (
        fails() if state.global_step == 2 else on_log(self, args, state, *rest, **named)
    )
elif failing and where.startswith("evaluation"):
    generate = CreditGRPOTrainer._generate_and_score_completions
    CreditGRPOTrainer._generate_and_score_completions = lambda self, inputs: (
        fails() if self.state.global_step == 2 else generate(self, inputs)
    )
elif failing:
    run.results_table = fails

run.register_schema()
given = [*SMALL, "trainer.per_device_train_batch_size=4", "trainer.max_steps=2", "trainer.use_cpu=true"]
run.run_grpo(compose_command("train_grpo", [*given, f"run_dir={folder}"]))
