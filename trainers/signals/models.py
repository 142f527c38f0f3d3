"""Models beside the policy, for providers of signals: placed, sharded, frozen, and out of reach of TRL's patches.

TRL puts a `forward` of its own on the policy, and on its language head; accelerate one more. A plain `copy.deepcopy` takes them
along, and they still call the policy that they were made for: such a copy follows the policy, silently.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from credit.signals import Models
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
        return _frozen(unpatched(trainer.accelerator.unwrap_model(trainer.model)))

    def hold_start(self) -> None:
        hold_start(self._trainer, self)

    def load(self, name: str | Path, **options: Any) -> Any:
        trainer = self._trainer
        policy = trainer.accelerator.unwrap_model(trainer.model)
        options = {"dtype": policy.dtype, "trust_remote_code": False} | options
        model = _frozen(AutoModelForCausalLM.from_pretrained(name, **options))
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


def unpatched(model: Any) -> Any:
    """A deep copy of its own: whatever was put on an instance in the place of a class's `forward` stays behind."""
    made = copy.deepcopy(model)
    for module in made.modules():
        vars(module).pop("forward", None)
        vars(module).pop("_original_forward", None)
    return made


def _frozen(model: Any) -> Any:
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = None
    return model.eval()


def follow(model: Any, policy: Any, decay: float) -> None:
    """Moves a copy of the policy towards it: new = decay old + (1 - decay) policy. Buffers are taken over."""
    with torch.no_grad():
        theirs = dict(policy.named_parameters())
        for name, parameter in model.named_parameters():
            parameter.lerp_(theirs[name].detach().to(parameter), 1 - decay)
        buffers = dict(policy.named_buffers())
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
