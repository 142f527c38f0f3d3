"""The real trainer's gradient on rollouts that are given, not sampled.

What exactness tests and the lab stand on: the same rollouts go through `CreditGRPOTrainer` cut into ranks and micro-batches
in every way, and the gradient of the one optimiser step is read off.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from credit.strategy import Strategy
from rewards.text.spans import Span
from trainers.grpo import CreditGRPOTrainer


@dataclass(frozen=True)
class FixedRollouts:
    """P prompts with G completions each, prompt-major: row b belongs to prompt b // G.

    Args:
        prompt_ids: P lists of token ids.
        completion_ids: P * G non-empty lists of token ids.
        rewards: P * G numbers, or P * G times one number for each of several reward functions; None = could not score.
        tool_mask: P * G lists of 0/1 as long as the completions; 0 = text of a tool, never learned from.
        spans: P * G lists of `rewards.text.spans.Span`: where the first reward function gave what it gave.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    rewards: Sequence[float | None] | Sequence[Sequence[float | None]]
    tool_mask: Sequence[Sequence[int]] | None = None
    spans: Sequence[Sequence[Span]] | None = None

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
            None if self.spans is None else [self.spans[b] for b in rows],
        )


def offline_rewards(prompt_ids: Sequence[int]) -> list[float]:
    """A column that belongs to the prompt, wherever it stands."""
    return [(sum(prompt_ids) + k) % 5 / 4 for k in range(3)]


def right_answer(prompt_ids: Sequence[int]) -> str | None:
    """As `offline_rewards`, a text of one to three letters; one prompt in five has none."""
    number = sum(prompt_ids)
    return "abcdefgh"[number % 6 :][: 1 + number % 3] if number % 5 else None


def replay_trainer(
    model,
    tokenizer,
    rollouts: FixedRollouts,
    strategy: Strategy | str | None,
    folder: str,
    accumulation: int = 1,
    trainer_class: Callable[..., CreditGRPOTrainer] = CreditGRPOTrainer,
    **options: Any,
) -> CreditGRPOTrainer:
    """A `CreditGRPOTrainer` that is given its rollouts instead of sampling them, every optimiser step the same ones.

    Under torchrun every rank calls this with the same arguments. `options` go to `GRPOConfig`; `peft_config` to the trainer. The
    rows, P * G, must be divisible by ranks * micro-batches; these are as many as `steps_per_generation` says, else `accumulation`.

    Raises:
        ValueError: rows cannot be cut that way, or the options make credit inexact.
    """
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    rows = len(rollouts.completion_ids)
    cuts = options.get("steps_per_generation", accumulation)
    if rows % (ranks * cuts):
        raise ValueError(f"{rows} rows cannot be cut into {ranks} ranks x {cuts} micro-batches.")
    peft_config = options.pop("peft_config", None)
    defaults = dict(
        output_dir=folder,
        per_device_train_batch_size=rows // (ranks * cuts),
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
    trainer = trainer_class(
        model=model,
        reward_funcs=[_Given(rollouts, k) for k in range(_functions(rollouts))],
        args=GRPOConfig(**(defaults | options)),
        train_dataset=Dataset.from_dict(
            {
                "prompt": [str(p) for p in range(len(rollouts.prompt_ids))],
                "offline_rewards": list(map(offline_rewards, rollouts.prompt_ids)),
                "answer": list(map(right_answer, rollouts.prompt_ids)),
            }
        ),
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
    return replay_gradients(model, tokenizer, rollouts, strategy, accumulation, **options)[0]


def replay_gradients(
    model,
    tokenizer,
    rollouts: FixedRollouts,
    strategy: Strategy | str | None,
    accumulation: int = 1,
    drift: Sequence[float] = (),
    observe: Callable | None = None,
    **options: Any,
) -> list[dict[str, Tensor]]:
    """Gradients of all optimiser steps (`max_steps`) of `replay_trainer`, as `replay_gradient`.

    Args:
        drift: for each step, the size of the normal noise by which every parameter is moved before it, the same in each call. So
            the policy leaves its reference, and with `num_iterations` > 1 its sampler, on the same way however the batch is cut.
        observe: see `CreditGRPOTrainer.credit_observers`.
    """
    before = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    gradients: list[dict[str, Tensor]] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = replay_trainer(model, tokenizer, rollouts, strategy, folder, accumulation, **options)
        trainer.add_callback(_KeepGradients(gradients))
        if drift:
            trainer.add_callback(_Drift(drift))
        if observe:
            trainer.credit_observers.append(observe)
        trainer.train()
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for parameter, value in before:
            parameter.copy_(value)
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


def _functions(rollouts: FixedRollouts) -> int:
    first = rollouts.rewards[0]
    return len(first) if isinstance(first, Sequence) else 1


class _Given:
    """The reward function number k of the rollouts."""

    def __init__(self, rollouts: FixedRollouts, k: int):
        self._rollouts, self._k = rollouts, k
        self.__name__ = f"given_{k}"
        if rollouts.spans is not None and k == 0:
            self.spans = lambda prompts, completions, row, **columns: [rollouts.spans[b] for b in row]

    def __call__(self, prompts, completions, row, **columns):
        given = [self._rollouts.rewards[b] for b in row]
        return [each[self._k] if isinstance(each, Sequence) else each for each in given]


class _KeepGradients(TrainerCallback):
    def __init__(self, gradients: list[dict[str, Tensor]]):
        self._gradients = gradients

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self._gradients.append(
            {
                name.removeprefix("module."): parameter.grad.detach().clone()
                for name, parameter in model.named_parameters()
                if parameter.grad is not None
            }
        )


class _Drift(TrainerCallback):
    def __init__(self, sizes: Sequence[float]):
        self._sizes, self._generator = iter(sizes), torch.Generator().manual_seed(0)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._move(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self._move(model)

    def _move(self, model) -> None:
        size = next(self._sizes, 0.0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=self._generator, dtype=torch.float64)
                parameter.add_((size * noise).to(parameter))
