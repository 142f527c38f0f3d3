"""The evaluations that a training run makes of itself: before its first step, on the way, and of the finished model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tasks.base import Row
from trainers.command.build import Rewards
from trainers.evaluation.completions import Collector, Judges, passes_by_default
from trainers.evaluation.measures import Measure, counts_of, differences, ks_for, measures_of
from trainers.run.files import metric_rows


class EvaluationHistory(TrainerCallback):
    """Appends a row to evaluations.jsonl for every evaluation: what eval_model.py would say of the completions that TRL has
    sampled. Main process only.

    Args:
        path: of the file.
        rewards: the run's.
        prompts: its held-out rows.
        each: completions of each.
    """

    def __init__(self, path: Path, rewards: Rewards, prompts: Sequence[Row], each: int):
        passes = passes_by_default(rewards.funcs, rewards.weights, rewards.names)
        self._judges = Judges(rewards.funcs, rewards.weights, rewards.names, passes)
        self._path, self._prompts, self._ks = path, prompts, ks_for(each) if each > 1 else []
        self._collector = Collector(self._judges, prompts, each)

    def attach(self, trainer: Any) -> None:
        """Hooks into a `CreditGRPOTrainer`."""
        trainer.scoring_observers.append(self._collector)
        trainer.add_callback(self)

    def on_evaluate(self, args, state, control, **kwargs):
        completions = self._collector.completions
        if state.is_world_process_zero and completions:
            measures = measures_of(completions, self._judges, self._prompts, self._ks)
            row = {
                "step": state.global_step,
                "passes": self._judges.passes,
                "measures": {name: measure.mean().as_dict() for name, measure in measures.items()},
                "unscored": counts_of(completions, self._judges.names),
                "by_prompt": {name: _pairs(measure) for name, measure in measures.items()},
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self._collector.reset()


def before_after(path: Path, last: int) -> dict[str, Any] | None:
    """What a run of `last` steps has gained: measures `before` the first step and `after` the last one, with the `gain` on the
    same prompts. None where it was not evaluated at both ends."""
    rows = {row["step"]: row for row in metric_rows(path.read_text(encoding="utf-8"))} if path.exists() else {}
    before, after = rows.get(0), rows.get(last)
    if before is None or after is None or not last:
        return None
    ours, theirs = ({name: Measure(dict(pairs)) for name, pairs in row["by_prompt"].items()} for row in (after, before))
    gain = {name: one.as_dict() for name, one in differences(ours, theirs).items()}
    return {"before": before["measures"], "after": after["measures"], "gain": gain}


def _pairs(measure: Measure) -> list[list[float]]:
    return [[prompt, value] for prompt, value in measure.by_prompt.items()]
