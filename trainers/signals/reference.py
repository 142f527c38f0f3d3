"""The policy that the run started from, and its log-probs; whether or not TRL keeps a reference for its KL term."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.trainer import utils as trl_utils

from credit.signals import Models
from trainers.model.adapters import REFERENCE, active_adapters, add_reference, is_adapted
from trainers.seam.sampler_pass import FORWARD_EXTRAS

_add_fused_head = getattr(trl_utils, "add_fused_lm_head", None)


def hold_start(trainer: Any, models: Models) -> None:
    """Keeps the policy as it is now, where nobody does: TRL does with `beta`; below an adapter that is new the start lies bare; an
    adapter that is trained on is copied, small as it is; any other policy is copied, or if it is sharded, loaded once more.

    A resumed run gets here with the policy of its start: a checkpoint's weights come later.
    """
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.beta or trainer.start is not None:
        return
    if is_adapted(policy):
        if trainer.started_adapted and REFERENCE not in policy.peft_config:
            add_reference(policy)
        return
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    trainer.start = models.load(policy.config._name_or_path) if sharded else models.copy_of_policy()
    if _add_fused_head is not None:  # as TRL does with its reference: its passes read nothing else
        in_float32 = getattr(trainer.args, "cast_lm_head_to_fp32", False)
        inner = trainer.accelerator.unwrap_model(trainer.start)
        _add_fused_head(inner, temperature=trainer.temperature, cast_lm_head_to_fp32=in_float32)


def reference_logps(trainer: Any, output: dict) -> Tensor:
    """(B, T) of the rows of TRL's batch dict under the start, at the sampling temperature, without gradient."""
    if "ref_per_token_logps" in output:
        return output["ref_per_token_logps"]
    tokens = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    extras = {name: output[name] for name in FORWARD_EXTRAS if name in output}
    width, size = output["completion_ids"].shape[1], trainer.args.per_device_train_batch_size
    with torch.no_grad(), _start_of(trainer) as model:
        found = trainer._get_per_token_logps_and_entropies(model, tokens, mask, width, batch_size=size, **extras)
    return found[0]


@contextmanager
def _start_of(trainer: Any) -> Iterator[Any]:
    """The model to pass through: the copy, or the policy with its adapter taken off or exchanged."""
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if not is_adapted(policy):
        yield trainer.start
    elif REFERENCE in policy.peft_config:
        with active_adapters(policy, REFERENCE):
            yield trainer.model
    else:
        with policy.disable_adapter():
            yield trainer.model
