"""What a provider of signals is asked with inside the trainer: the rows of this rank, and helpers that own TRL's traps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from credit.signals import Rows, TokenStatistics
from trainers.seam.visit import Scoring, learning_mask


class TrainerRows(Rows):
    """As `credit.signals.Rows`; `trainer` is a `CreditGRPOTrainer`, `output` TRL's batch dict of this rank."""

    def __init__(self, trainer: Any, output: dict, scoring: Scoring, rewards_B: Tensor, num_generations: int):
        rows = len(output["completion_ids"])
        first = trainer.accelerator.process_index * rows
        mine = slice(first, first + rows)
        self._trainer, self._output, self._scoring = trainer, output, scoring
        self.training = trainer.model.training
        self.max_length = trainer.max_completion_length
        self.mask_BT = learning_mask(output)
        self.written_BT = output["completion_mask"].bool()
        self.token_ids_BT = output["completion_ids"]
        self.prompt_ids = [
            ids[mask.bool()].tolist() for ids, mask in zip(output["prompt_ids"], output["prompt_mask"], strict=True)
        ]
        self.rewards_B, self.rewards_BK = rewards_B[mine], scoring.rewards_BK[mine]
        self.group_B = torch.arange(first, first + rows, device=rewards_B.device) // num_generations
        self.prompts, self.completions = scoring.prompts, scoring.completions
        names = [name for name in (scoring.rows[0] if scoring.rows else {}) if name != "prompt"]
        self.columns = {name: [row.get(name) for row in scoring.rows] for name in names}

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        found = self._trainer.sampler_statistics(self._output, self._scoring, frozenset(statistics))
        return TokenStatistics(found.logps_BT, found.entropies_BT, found.sum_sq_BT)

    def span_rewards(self) -> Tensor:
        earned_BT, width = self._scoring.span_rewards_BT, self.token_ids_BT.shape[1]
        padding = (0, width - earned_BT.shape[1])  # TRL may pad completions to a multiple
        return torch.nn.functional.pad(earned_BT, padding).to(self.token_ids_BT.device)

    def gather(self, values: Sequence[Any]) -> list[Any]:
        return gather_object(list(values)) if self._trainer.accelerator.num_processes > 1 else list(values)
