"""Environments in TRL's tool loop: guarded, asked for what each turn earned, and a row whose environment failed left unscored."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer

from rewards.guard.verdict import FailureLimit, RewardStop
from tasks.environments.earned import EnvironmentReward
from tasks.environments.factory import guarded_factory
from tasks.environments.functions import guarded_function
from tasks.environments.notes import notes_of
from trainers.model.tool_calls import check_schemas

ARGUMENT = "environment_factory"
# TRL makes the reward of `get_reward` itself, in its `__init__`; this is what such a function is called.
_OF_TRL = f"{GRPOTrainer.__name__}.__init__.<locals>.get_reward"


def trl_takes(argument: str) -> bool:
    """Whether this TRL's `GRPOTrainer` has the argument."""
    return argument in GRPOTrainer.__init__.__code__.co_varnames


def guarded_environments(arguments: dict[str, Any], seconds: float | None, scored: bool = True) -> dict[str, Any]:
    """The keyword arguments of the trainer with `environment_factory` and `tools` guarded. Without reward functions an environment pays, by
    `get_reward` or what its turns earned.

    Raises:
        ValueError: this TRL has no environments.
    """
    if arguments.get("tools"):
        arguments = {**arguments, "tools": [guarded_function(tool, seconds) for tool in arguments["tools"]]}
    if arguments.get(ARGUMENT) is None:
        return arguments
    if not hasattr(GRPOTrainer, "_tool_call_loop") or not trl_takes(ARGUMENT):
        raise ValueError("environment_factory needs a TRL that has it (1.16 does): pip install -U trl.")
    made = guarded_factory(arguments[ARGUMENT], seconds, sums=not scored, check=check_schemas)
    return {**arguments, ARGUMENT: made}


def faults_of(trainer: Any) -> list[str | None]:
    """What went wrong in the environment of each row of this rank, None where nothing did; empty without environments."""
    faults = [notes_of(environment).fault for environment in getattr(trainer, "environments", None) or []]
    return [None if fault is None else f"{fault[0]}: {fault[1]}" for fault in faults]


class Environments:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    environments: list[Any] | None
    _fault_limit: FailureLimit | None = None
    _prompts_given: list[Any] | None = None

    def _take_environments(self, seconds: float | None) -> None:
        """After TRL's `__init__`: its reward of `get_reward` tells what each turn earned."""
        for k, func in enumerate(self.reward_funcs):
            if getattr(func, "__qualname__", "") == _OF_TRL:
                self.reward_funcs[k] = EnvironmentReward(func, self.reward_func_names[k], seconds)
        self._fault_limit = FailureLimit(0.5, 64)

    def _rows_to_play(self, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with prompts of their own where there are environments: trl 1.8 writes into them what `reset` returned."""
        if getattr(self, "environment_factories", None) is None:
            return list(inputs)
        self._prompts_given = [row.get("prompt") for row in inputs]
        return [row | {"prompt": copy.deepcopy(row["prompt"])} if "prompt" in row else row for row in inputs]

    def _rows_as_given(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the data's prompts again, as later versions of TRL leave them."""
        given, self._prompts_given = self._prompts_given, None
        if given is None:
            return inputs
        return [row | {"prompt": old} if "prompt" in row else row for row, old in zip(inputs, given, strict=True)]

    def _without_faults(self, rewards_BK: Tensor) -> Tensor:
        """`rewards_BK` of the rows of all ranks, NaN where a row's environment went wrong. Counted in the metrics.

        Raises:
            RewardStop: on all ranks, if environments go wrong in more than half of the last rollouts.
        """
        if self._fault_limit is None or not getattr(self, "environments", None):
            return rewards_BK
        faults = gather_object(faults_of(self))
        spoilt_B = torch.tensor([fault is not None for fault in faults], device=rewards_BK.device)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["environments/failed"].append(float(spoilt_B.float().mean()))
        kinds = Counter(filter(None, faults))
        if self._fault_limit.exceeded(len(faults), int(spoilt_B.sum())):
            raise RewardStop(
                f"Environments went wrong in more than half of the last {len(faults)} rollouts. Most often: {kinds.most_common(1)[0][0]}. "
                "Mend the environment (task.environment), or give it more time (environment_timeout)."
            )
        return rewards_BK.masked_fill(spoilt_B[:, None], torch.nan)
