"""Where the update cannot be told apart into halves while it trains (trainers/run/tell/online_audit.py), and what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from credit.strategy import Strategy
from trainers.command.world_size import sharding_now

_INSTEAD = "set audit.every=0, and audit the checkpoints afterwards (python -m lab.audit)"


def refuse_online(args: Any, strategy: Strategy | None, trainer: Any = None) -> None:
    """args: a `trl.GRPOConfig`. trainer: if it is built already; without one, what can be known before.

    Raises:
        ValueError: with the remedy.
    """
    for broken, reason in _rules(args, strategy, trainer):
        if broken:
            raise ValueError(f"the online audit (audit.every) {reason}.")


def _rules(args: Any, strategy: Strategy | None, trainer: Any) -> Iterator[tuple[bool, str]]:
    yield strategy is None, "measures the update of a credit strategy, and this trainer has none (credit=None)"
    groups = args.generation_batch_size // args.num_generations
    yield (
        groups < 2,
        "compares two halves of whole groups, and a generation batch here is one prompt "
        f"({args.generation_batch_size} completions, {args.num_generations} per prompt). Give it at least two prompts "
        "(trainer.generation_batch_size, or more processes)",
    )
    sharded = sharding_now() or (trainer is not None and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled))
    yield (
        bool(sharded),
        f"needs the whole gradient on every rank, and FSDP and DeepSpeed deal it out. Train with DDP, or {_INSTEAD}",
    )
    yield bool(args.fp16), f"needs gradients that are not scaled. Use trainer.bf16=true instead of fp16, or {_INSTEAD}"
    kwargs = getattr(args, "gradient_checkpointing_kwargs", None) or {}
    yield (
        bool(args.gradient_checkpointing) and bool(kwargs.get("use_reentrant")),
        "goes through the graph twice, which re-entrant checkpointing cannot. Set "
        "trainer.gradient_checkpointing_kwargs.use_reentrant=false",
    )
    yield (
        bool(getattr(args, "torch_compile", False)),
        f"goes through the graph twice, which a compiled backward pass cannot. Set trainer.torch_compile=false, or {_INSTEAD}",
    )
    yield (
        not getattr(getattr(strategy, "critic", None), "detach", True),
        "cannot tell the critic's gradient from the policy's. Set credit.critic.detach=true",
    )
    yield (
        bool(getattr(trainer, "aux_loss_enabled", False)),
        f"cannot tell the router's own loss, which is of no single row, from the policy's. Set it to 0 in the model, or {_INSTEAD}",
    )
