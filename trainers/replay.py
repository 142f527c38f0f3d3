"""The real trainer's gradient on rollouts that are given, not sampled.

What exactness tests and the lab stand on: the same rollouts go through `CreditGRPOTrainer` cut into ranks and micro-batches
in every way, and the gradient of the one optimiser step is read off.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from credit.strategy import Strategy
from trainers.grpo import CreditGRPOTrainer


@dataclass(frozen=True)
class FixedRollouts:
    """P prompts with G completions each, prompt-major: row b belongs to prompt b // G.

    Args:
        prompt_ids: P lists of token ids.
        completion_ids: P * G non-empty lists of token ids.
        rewards: P * G numbers; None = unscorable.
        tool_mask: P * G lists of 0/1 as long as the completions; 0 = text of a tool, never learned from.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    rewards: Sequence[float | None]
    tool_mask: Sequence[Sequence[int]] | None = None

    @property
    def num_generations(self) -> int:
        return len(self.completion_ids) // len(self.prompt_ids)

    def permuted(self, order: Sequence[int]) -> FixedRollouts:
        """The same groups in another order of prompts; rows of each group in reverse."""
        rows = [p * self.num_generations + g for p in order for g in reversed(range(self.num_generations))]
        return FixedRollouts(
            [self.prompt_ids[p] for p in order],
            [self.completion_ids[b] for b in rows],
            [self.rewards[b] for b in rows],
            None if self.tool_mask is None else [self.tool_mask[b] for b in rows],
        )


def replay_trainer(
    model,
    tokenizer,
    rollouts: FixedRollouts,
    strategy: Strategy | str | None,
    folder: str,
    accumulation: int = 1,
    **options: Any,
) -> CreditGRPOTrainer:
    """A `CreditGRPOTrainer` that is given its rollouts instead of sampling them, every optimiser step the same ones.

    Under torchrun every rank calls this with the same arguments. `options` go to `GRPOConfig`; `peft_config` to the trainer. The
    rows, P * G, must be divisible by ranks * accumulation.

    Raises:
        ValueError: rows cannot be cut that way, or the options make credit inexact.
    """
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    rows = len(rollouts.completion_ids)
    if rows % (ranks * accumulation):
        raise ValueError(f"{rows} rows cannot be cut into {ranks} ranks x {accumulation} micro-batches.")
    peft_config = options.pop("peft_config", None)
    defaults = dict(
        output_dir=folder,
        per_device_train_batch_size=rows // (ranks * accumulation),
        gradient_accumulation_steps=accumulation,
        num_generations=rollouts.num_generations,
        max_completion_length=max(8, *(len(ids) for ids in rollouts.completion_ids)),
        max_steps=1,
        learning_rate=0.0,
        max_grad_norm=0.0,
        loss_type="dr_grpo",
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = CreditGRPOTrainer(
        model=model,
        reward_funcs=_rewards_of(rollouts),
        args=GRPOConfig(**(defaults | options)),
        train_dataset=Dataset.from_dict({"prompt": [str(p) for p in range(len(rollouts.prompt_ids))]}),
        processing_class=tokenizer,
        rollout_func=_rollout_of(rollouts),
        peft_config=peft_config,
        credit=strategy,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def replay_gradient(
    model, tokenizer, rollouts: FixedRollouts, strategy: Strategy | str | None, accumulation: int = 1, **options: Any
) -> dict[str, Tensor]:
    """Gradient of one optimiser step of `replay_trainer`, by parameter name; the model is left as it was.

    Under torchrun every rank gets the same (averaged) gradient.
    """
    gradients: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = replay_trainer(model, tokenizer, rollouts, strategy, folder, accumulation, **options)
        trainer.add_callback(_KeepGradients(gradients))
        trainer.train()
    model.zero_grad(set_to_none=True)
    return gradients


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """All gradients as one vector, in order of their names."""
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def _rollout_of(rollouts: FixedRollouts):
    def rollout(prompts, trainer):
        # TRL hands each rank its slice of the prompts, every prompt repeated G times in a row over the ranks.
        first = trainer.accelerator.process_index * len(prompts)
        size = rollouts.num_generations
        rows = [int(prompt) * size + (first + i) % size for i, prompt in enumerate(prompts)]
        output = {
            "prompt_ids": [list(rollouts.prompt_ids[int(prompt)]) for prompt in prompts],
            "completion_ids": [list(rollouts.completion_ids[b]) for b in rows],
            "logprobs": None,
            "row": rows,
        }
        if rollouts.tool_mask is not None:
            output["env_mask"] = [list(rollouts.tool_mask[b]) for b in rows]
        return output

    return rollout


def _rewards_of(rollouts: FixedRollouts):
    def given(prompts, completions, row, **columns):
        return [rollouts.rewards[b] for b in row]

    return given


class _KeepGradients(TrainerCallback):
    def __init__(self, gradients: dict[str, Tensor]):
        self._gradients = gradients

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._gradients[name.removeprefix("module.")] = parameter.grad.detach().clone()
