"""Models beside the policy, for providers of signals: placed, sharded, frozen, and out of reach of TRL's patches.

TRL puts a `forward` of its own on the policy, and on its language head; accelerate one more. A plain `copy.deepcopy` takes them
along, and they still call the policy that they were made for: such a copy follows the policy, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from credit.signals import Models
from trainers.signals.copies import follow, frozen, put_weights, unpatched, weights_of
from trainers.signals.learners import Learner
from trainers.signals.reference import hold_start


class TrainerModels(Models):
    """As `credit.signals.Models`, in a run of the trainer."""

    def __init__(self, trainer: Any):
        self._trainer = trainer

    def copy_of_policy(self) -> Any:
        trainer = self._trainer
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ValueError(
                "a copy of a policy that is sharded cannot be made (FSDP, DeepSpeed). Load its folder in the place of the copy: "
                "models.load(name)."
            )
        return frozen(unpatched(trainer.accelerator.unwrap_model(trainer.model)))

    def learner(self, learning_rate: float, max_grad_norm: float) -> Learner:
        names = [name for name, parameter in self._policy.named_parameters() if parameter.requires_grad]
        return Learner(self.copy_of_policy(), names, learning_rate, max_grad_norm)

    def follow(self, model: Any, decay: float) -> None:
        follow(model, self._policy, decay)

    def weights_of(self, model: Any) -> dict[str, torch.Tensor]:
        return weights_of(model, self._policy)

    def put_weights(self, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
        put_weights(model, weights)

    @property
    def _policy(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model)

    def hold_start(self) -> None:
        hold_start(self._trainer, self)

    def load(self, name: str | Path | None, **options: Any) -> Any:
        trainer = self._trainer
        policy = trainer.accelerator.unwrap_model(trainer.model)
        options = {"dtype": policy.dtype, "trust_remote_code": False} | options
        model = frozen(AutoModelForCausalLM.from_pretrained(name, **options))
        if len(tokens := getattr(trainer.processing_class, "tokenizer", trainer.processing_class)) > model.vocab_size:
            raise ValueError(
                f"{name} knows {model.vocab_size} tokens and the policy's tokenizer {len(tokens)}: a model beside the policy has to "
                "read the same token ids."
            )
        if trainer.is_deepspeed_enabled:
            from trl.models import prepare_deepspeed

            return prepare_deepspeed(model, trainer.accelerator)
        if trainer.is_fsdp_enabled:
            from trl.models import prepare_fsdp

            return prepare_fsdp(model, trainer.accelerator)
        return trainer.accelerator.prepare_model(model, evaluation_mode=True)
