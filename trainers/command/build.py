"""Configuration -> objects: the pieces that a command is made of. trainers/command/prepare.py puts those of a training run
together, in the order in which mistakes are cheapest."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from omegaconf import DictConfig, OmegaConf

from configs.command_line.schema import departures
from configs.command_line.unread import did_you_mean
from configs.compose import ConfigError, build_node
from rewards.answers.scorable import check_references
from rewards.build import check_reward_columns, check_weights, guard_rewards, resolve_rewards
from tasks.base import Task
from trainers.command.fields import strange_fields
from trainers.model.adapters import base_of
from trainers.model.lengths import check_room, lengths_of
from trainers.model.policy import Policy

_CHECKS_ROOM = "trainers.model.pretrained.hf"  # before it loads the weights


@dataclass
class Rewards:
    funcs: list[Callable]
    weights: list[float]
    names: list[str] = field(init=False)  # as TRL logs them

    def __post_init__(self):
        self.names = [getattr(func, "__name__", type(func).__name__) for func in self.funcs]


def build_task(config: DictConfig) -> Task:
    """The task named by `task`, its rows and rewards.

    Raises:
        ConfigError: whatever the task says is wrong with its arguments or files.
    """
    task = build_node("task", config.task)
    if not isinstance(task, Task):
        raise ConfigError(f"task: `{config.task._target_}` must return a tasks.base.Task, got {type(task).__name__}.")
    return task


def build_rewards(config: DictConfig, task: Task) -> Rewards:
    """The reward functions of `reward`, guarded, and their weights; `funcs: task` means the task's own.

    Raises:
        ConfigError: a file, name or signature is wrong, a column is missing, or weights do not pair with functions.
    """
    node = config.reward
    plain = OmegaConf.to_container(node, resolve=True)
    try:
        if node.funcs == "task":
            if not task.reward_funcs:
                raise ValueError(
                    task.unrewarded
                    or f"task {task.name} has no rewards of its own; give reward.funcs=[file.py:function]."
                )
            funcs, weights = list(task.reward_funcs), list(task.reward_weights)
        else:
            funcs = resolve_rewards(plain["funcs"], Path.cwd())
            weights = [1.0] * len(funcs)
        check_reward_columns(funcs, task.train[0])
        if node.funcs != "task":  # a task looks at its own
            check_references(funcs, [*task.train, *task.evaluation], f"task {task.name}")
        weights = check_weights(plain.get("weights"), funcs) or weights
    except ValueError as error:
        raise ConfigError(f"reward: {error}") from error
    options = plain.get("guard") or {}
    enabled = options.pop("enabled", True)
    try:
        return Rewards(guard_rewards(funcs, options if enabled else None), weights)
    except ValueError as error:
        raise ConfigError(f"reward.guard: {error}") from error


def build_policy(config: DictConfig, task: Task, room: int = 0) -> Policy:
    """Loads or builds the model. The expensive step: call it last. room: tokens that are written behind each prompt.

    Raises:
        ConfigError: whatever the builder says is wrong; a prompt that is too long for the model, with its row.
    """
    task = replace(task, room=room) if room else task
    policy = build_node("model", config.model, task=task)
    if config.model.get("_target_") != _CHECKS_ROOM:
        check_room(
            task, lengths_of(task, policy.tokenizer), policy.model.config, f"the model of `{config.model._target_}`"
        )
    return policy


def load_policy(config: DictConfig, task: Task, room: int = 0) -> Policy | None:
    """`build_policy`; None where building it was all that was asked for (`build_only`), which is said."""
    state = PartialState()
    policy = build_policy(to_train(config), task, room)
    if config.build_only:
        state.print("The model is built and cached; build_only=true stops here.")
        return None
    return policy


def to_train(config: DictConfig) -> DictConfig:
    """The configuration with the dtype of weights that are all trained: float32 where `model.dtype` leaves it open, as TRL has
    it. Small updates are lost in bfloat16; an adapter's base takes none, and stays as it was saved."""
    node = config.model
    if node.get("_target_") != "trainers.model.pretrained.hf" or node.get("dtype") is not None:
        return config
    has_adapter = base_of(Path(str(node.name)).expanduser()) is not None
    if node.get("peft") or (has_adapter and not node.get("merge_adapter")):
        return config
    config = config.copy()
    config.model.dtype = "float32"
    return config


def template_of(config: DictConfig) -> dict[str, Any]:
    """Arguments of the chat template, `chat_template_kwargs` of the command.

    Raises:
        ConfigError: it is no mapping.
    """
    given = config.get("chat_template_kwargs")
    if given is None:
        return {}
    if not OmegaConf.is_dict(given):
        raise ConfigError(
            f"chat_template_kwargs={given!r}: name its fields, chat_template_kwargs.enable_thinking=false."
        )
    return OmegaConf.to_container(given, resolve=True)


def build_sampler(config: DictConfig):
    """The sampler named by `sampler`, see sampling/."""
    return build_node("sampler", config.sampler)


def grpo_args(config: DictConfig, config_class: type, folder: Path, rewards: Rewards, has_evaluation: bool) -> Any:
    """`build_args` for `trl.GRPOConfig`, with what the rewards decide. folder: of the checkpoints."""
    fixed: dict[str, Any] = {} if has_evaluation else {"eval_on_start": False}
    if config.trainer.reward_weights is None:
        fixed["reward_weights"] = rewards.weights
    else:
        check_weights(list(config.trainer.reward_weights), rewards.funcs)
    return build_args(config, config_class, output_dir=str(folder), seed=config.seed, disable_tqdm=True, **fixed)


def build_args(config: DictConfig, config_class: type, **fixed: Any):
    """TRL's config object from the `trainer` node plus what the run decides (`fixed`).

    Raises:
        ConfigError: TRL refuses the combination (for example a batch that groups of completions do not divide).
    """
    values = OmegaConf.to_container(config.trainer, resolve=True)
    known = {entry.name for entry in dataclasses.fields(config_class)}
    if complaint := strange_fields(values, known, config_class.__name__):
        raise ConfigError(complaint)
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if on_cpu:
        # transformers looks at its own option only and, where there is a GPU, would put the batches there.
        fixed["use_cpu"] = True
    on_cpu = on_cpu or values.get("use_cpu")
    if values.get("bf16") is None and (on_cpu or not torch.accelerator.is_available()):
        fixed["bf16"] = False  # TRL's default is mixed precision, which on a CPU is slower and less exact
    try:
        return config_class(**{**departures(config_class, values), **fixed})
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise ConfigError(f"trainer: {error}{_nearest(str(error))}") from error


def _nearest(message: str) -> str:
    """The near one, where a library lists what it takes: `cosin is not a valid SchedulerType, please select one of [...]`."""
    found = re.match(r"(\S+) is not a valid \w+, please select one of \[(.*)\]$", message)
    listed = re.findall(r"'([^']+)'", found[2]) if found else []
    return f".{did_you_mean(found[1], listed)}" if found else ""
