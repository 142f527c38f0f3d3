"""A trainer that only evaluates: TRL's prompts, generation and rewards, with completions drawn by sampling.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback

from tasks.base import Row
from trainers.command.rows import as_dataset
from trainers.evaluation.completions import Collector, Judges
from trainers.evaluation.sampling import drawn_from, stream_of
from trainers.grpo import CreditGRPOTrainer

_PLACE = "place_in_evaluation"  # a column that is gone before anyone else sees the row
Place = tuple[int, int]  # (prompt, sample)


class EvaluationTrainer(CreditGRPOTrainer):
    """`evaluate()` fills `collector.completions`.

    Args:
        rows: of the prompts; places: which completions of which prompts are wanted.
        judges: the reward functions.
        seed: of the completions; None: each token the likeliest.
        model, args, tokenizer: as `CreditGRPOTrainer`.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        args: Any,
        rows: Sequence[Row],
        places: Sequence[Place],
        judges: Judges,
        seed: int | None,
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
        )
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self._draws_from = seed
        self._here: list[Place] = []
        self.collector = Collector(judges, rows, places=lambda: self._here)
        self.scoring_observers.append(self.collector)

    def _get_eval_sampler(self, eval_dataset):
        return torch.utils.data.SequentialSampler(eval_dataset)

    def _generate_and_score_completions(self, inputs):
        self._here = [tuple(row.pop(_PLACE)) for row in inputs]
        streams = None
        if self._draws_from is not None:
            pairs = zip(inputs, self._here, strict=True)
            streams = [stream_of(self._draws_from, row["prompt"], sample) for row, (_, sample) in pairs]
        if self.use_vllm:
            return super()._generate_and_score_completions(inputs)
        with drawn_from(self.accelerator.unwrap_model(self.model), streams):
            return super()._generate_and_score_completions(inputs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Without the loss, and so without a forward pass of its own."""
        self._prepare_inputs(inputs)
        return torch.zeros((), device=self.accelerator.device), None, None
