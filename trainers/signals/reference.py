"""The policy that the run started from, and its log-probs; whether or not TRL keeps a reference for its KL term."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from credit.signals import Models
from trainers.model.adapters import REFERENCE, active_adapters, add_reference, is_adapted
from trainers.signals.contexts import logps_after


def keep_start(trainer: Any, models: Models) -> None:
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


def reference_logps(trainer: Any, output: dict, prompt_ids: Sequence[Sequence[int]]) -> Tensor:
    """(B, T) of the rows of TRL's batch dict under the start, at the sampling temperature, without gradient."""
    if "ref_per_token_logps" in output:
        return output["ref_per_token_logps"]
    policy = trainer.accelerator.unwrap_model(trainer.model)
    own = [list(ids) for ids in prompt_ids]
    if not is_adapted(policy):
        return logps_after(trainer, own, output, trainer.start)
    with _at_start(policy):
        return logps_after(trainer, own, output)


@contextmanager
def _at_start(policy: Any):
    if REFERENCE in policy.peft_config:
        with active_adapters(policy, REFERENCE):
            yield
    else:
        with policy.disable_adapter():
            yield
