"""`python -m trainers.loop`: from its words to `trainers.loop.train`. Whatever can be wrong is looked at before a model is built."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from configs.compose import ConfigError, make_strategy
from credit.requires import unmet
from credit.strategy import Strategy
from rewards.guard import is_async
from trainers.command.build import Rewards, build_policy, build_rewards, build_task
from trainers.command.cli import Command
from trainers.command.fields import impossible_numbers
from trainers.critic.plain import unknown_critic
from trainers.loop import train

AT_LEAST_ONE = ("max_steps", "logging_steps")
NOT_NEGATIVE = ("learning_rate", "max_grad_norm", "epsilon", "beta")


def run_loop(command: Command) -> None:
    """Raises ConfigError: with the remedy."""
    config, args = command.config, command.config.trainer
    strategy, task = make_strategy(config.credit), build_task(config)
    if any(word.lstrip("+~").startswith("reward.guard") for word in command.overrides):
        raise ConfigError(
            "reward.guard: the loop has no guard, and a reward that fails ends it; train_grpo.py has one."
        )
    config.reward.guard = {"enabled": False}
    rewards = build_rewards(config, task)
    if args.max_completion_length is None:
        args.max_completion_length = task.max_completion_length or 64
    for complaint in loop_complaints(strategy, rewards, args):
        raise ConfigError(complaint)
    torch.manual_seed(config.seed)
    policy = build_policy(config, task, room=args.max_completion_length)
    if policy.peft_config is not None:
        raise ConfigError("model/peft: the loop trains all weights; leave the adapter to train_grpo.py.")
    train(policy.model, policy.tokenizer, task.train, rewards, strategy, args)


def loop_complaints(strategy: Strategy, rewards: Rewards, args) -> Iterator[str]:
    """What would train something else than was asked for, a sentence each. `args`: the node `trainer`."""
    yield from impossible_numbers(args)
    if missing := [name for name in strategy.requires if name not in args]:
        yield f"credit strategy {strategy.name!r} requires trainer.{missing[0]}, which the loop has not; train_grpo.py has it."
    yield from (f"credit strategy {strategy.name!r} {sentence}." for sentence in unmet(strategy.requires, args))
    yield from (f"trainer.{name}={args[name]} must be at least 1." for name in AT_LEAST_ONE if args[name] < 1)
    yield from (f"trainer.{name}={args[name]} must not be negative." for name in NOT_NEGATIVE if args[name] < 0)
    if args.num_generations < 2:
        yield "trainer.num_generations=1 leaves a completion nobody to be compared with. Set at least 2."
    if args.per_device_train_batch_size % args.num_generations:
        yield (
            f"trainer.per_device_train_batch_size={args.per_device_train_batch_size} is no multiple of "
            f"trainer.num_generations={args.num_generations}, and a batch holds whole groups. Change one of them."
        )
    if strategy.kl_in_reward and not args.beta:
        yield "credit.kl_in_reward takes its coefficient from trainer.beta, which is 0. Set e.g. trainer.beta=0.05."
    yield from unknown_critic(strategy)
    if not rewards.funcs:
        yield "the task has no rewards. Give reward.funcs=[file.py:function]."
    for name, func in zip(rewards.names, rewards.funcs, strict=True):
        if isinstance(func, torch.nn.Module) or is_async(func):
            yield f"the reward {name} is a model or asynchronous: train_grpo.py runs these, the loop does not."
