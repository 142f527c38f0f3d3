"""A trainer that only evaluates: TRL's prompts, tool loop and rewards, with completions drawn by sampling.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback

from rewards.guard.verdict import FailureLimit
from tasks.base import Row, Task
from tasks.environments.numbers import Numbers
from trainers.command.rows import as_dataset
from trainers.evaluation.completions import Collector, Judges
from trainers.evaluation.playing import Plays, playing, row_name
from trainers.evaluation.sampling import stream_of
from trainers.grpo import CreditGRPOTrainer

_PLACE = "place_in_evaluation"  # a column that is gone before anyone else sees the row
Place = tuple[int, int]  # (prompt, sample)


class EvaluationTrainer(Plays, CreditGRPOTrainer):
    """`evaluate()` fills `collector.completions`.

    Args:
        task: what is played; rows: of the prompts; places: which completions of which prompts are wanted.
        judges: the reward functions.
        seed: of the completions.
        greedy: each token is the likeliest; the seed still names what environments draw.
        failed_share: environments may go wrong in at most this share of the last rollouts.
        model, args, tokenizer, environment_timeout: as `CreditGRPOTrainer`.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        args: Any,
        task: Task,
        rows: Sequence[Row],
        places: Sequence[Place],
        judges: Judges,
        seed: int,
        greedy: bool = False,
        failed_share: float = 1.0,
        environment_timeout: float | None = 30.0,
    ):
        data = as_dataset([{**rows[prompt], _PLACE: [prompt, sample]} for prompt, sample in places])
        super().__init__(
            model=model,
            reward_funcs=list(judges.funcs),
            args=args,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
            credit=None,
            **playing(task, self._dealt, environment_timeout),
        )
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self._seed, self._greedy, self._plays = seed, greedy, task.environment is not None
        if self._plays:
            self._fault_limit = FailureLimit(failed_share, 64)
        self.here: list[Place] = []
        self._names: list[str] = []
        self._begun = 0
        self.collector = Collector(judges, rows, places=lambda: self.here)
        self.scoring_observers.append(self.collector)

    def _dealt(self) -> Numbers:
        """What the next environment of a batch draws: TRL begins them in the order of the rows."""
        place = self._begun
        self._begun += 1
        return Numbers(f"{self._seed} {self._names[place]} {self.here[place][1]}")

    def _get_eval_sampler(self, eval_dataset):
        return torch.utils.data.SequentialSampler(eval_dataset)

    def _generate_and_score_completions(self, inputs):
        self.here = [tuple(row.pop(_PLACE)) for row in inputs]
        self._names = [row_name(row, self._plays) for row in inputs]
        self._begun = 0
        pairs = zip(self._names, self.here, strict=True)
        self.streams = None if self._greedy else [stream_of(self._seed, name, sample) for name, (_, sample) in pairs]
        return super()._generate_and_score_completions(inputs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Without the loss, and so without a forward pass of its own."""
        self._prepare_inputs(inputs)
        return torch.zeros((), device=self.accelerator.device), None, None
