"""How long a run is: rows of a step, steps of an epoch, tokens of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Length:
    """Args:
    rows: completions, or texts, of an optimiser step on all ranks.
    steps: optimiser steps of the run; None: not to be known without the data.
    epochs: passes over the data that these are; None likewise.
    tokens_per_row: that a row has at most; prompts of completions are not counted. 0: no limit is known.
    """

    rows: int
    steps: int | None
    epochs: float | None
    tokens_per_row: int

    @property
    def tokens(self) -> int | None:
        """Of the whole run, at most."""
        return None if self.steps is None else self.steps * self.rows * self.tokens_per_row


def length_of_grpo(args: Any, prompts: int | None) -> Length:
    """args: a `trl.GRPOConfig`; prompts: of the table, None: not known."""
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    per_generation = args.generation_batch_size // args.num_generations
    micro = None
    if prompts is not None:
        # TRL's sampler drops the prompts that fill no generation batch, and deals each batch out num_iterations times.
        micro = prompts // per_generation * args.num_iterations * args.steps_per_generation
    return Length(rows, *_steps(args, micro), tokens_per_row=args.max_completion_length)


def length_of_texts(args: Any, texts: int, positions: int | None = None) -> Length:
    """args: a `trl.SFTConfig`; texts: rows of the table, which packing may make fewer; positions: of the model, None: not known."""
    per_pass = args.per_device_train_batch_size * args.world_size
    micro = texts // per_pass if args.dataloader_drop_last else math.ceil(texts / per_pass)
    rows = per_pass * args.gradient_accumulation_steps
    return Length(rows, *_steps(args, micro), tokens_per_row=longest_text(args, positions) or 0)


def longest_text(args: Any, positions: int | None) -> int | None:
    """Tokens of the longest text that is trained on; None: neither `max_length` nor the model says. args: a `trl.SFTConfig`."""
    return min((limit for limit in (args.max_length, positions) if limit), default=None)


def _steps(args: Any, micro: int | None) -> tuple[int | None, float | None]:
    """(steps, epochs) from the micro-batches that a process has in an epoch, as transformers counts them."""
    per_epoch = None if micro is None else max(1, math.ceil(micro / args.gradient_accumulation_steps))
    if args.max_steps > 0:
        return args.max_steps, None if per_epoch is None else args.max_steps / per_epoch
    return None if per_epoch is None else math.ceil(args.num_train_epochs * per_epoch), args.num_train_epochs
