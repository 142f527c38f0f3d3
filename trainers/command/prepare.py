"""A command is turned into one thing, a `Job`, and carried on. Every check that needs no model is here, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from trl import GRPOConfig, SFTConfig

from configs.compose import ConfigError, check_keys, make_strategy
from credit.strategy import Strategy
from sampling.draws import check_counts
from tasks.base import Task
from trainers.command.before import (
    check_copies,
    check_evaluation,
    check_length,
    prompts_left_out,
    say_left_out,
    texts_left_out,
)
from trainers.command.build import Rewards, build_args, build_rewards, build_task, grpo_args
from trainers.command.cli import Command
from trainers.command.job import GRPOJob, LikelihoodJob
from trainers.command.texts import texts_of
from trainers.command.tools import build_tools, check_tools
from trainers.command.trackers import check_trackers
from trainers.command.world_size import sharding_now
from trainers.lhts import LHTS, LHTSTrainer
from trainers.plan.machines import as_if_on, planned_machines
from trainers.publish.push import check_push
from trainers.refill.refusals import refuse_refill
from trainers.run.folder import open_folder
from trainers.run.tell.online_audit import online_audit
from trainers.run.tell.online_refused import refuse_online
from trainers.seam.members import untouched
from trainers.seam.reference_reward import reads_reference, refuse_without_reference
from trainers.seam.refusals import refuse_columns, refuse_inexact
from trainers.sft import CreditSFTTrainer, refuse_inexact_sft, sft_strategy, weigh
from userio.words import word_of

_MASK = "trainer.assistant_only_loss"


def prepare_grpo(command: Command) -> GRPOJob | None:
    """The job of `train_grpo.py`; None where resume=true finds it done, which is said.

    Raises:
        ValueError: with the remedy.
    """
    config = command.config
    folder = open_folder(config, command.choices, command.overrides)
    if folder is None:
        return None
    strategy = make_strategy(config.credit)
    task, absent = _task_or_reason(command)
    task.tools = [*task.tools, *build_tools(config.tools)]
    rewards = Rewards([], []) if absent else build_rewards(config, task)
    args = grpo_args(
        config, _class_of(command, GRPOConfig), folder.checkpoints, rewards, has_evaluation=bool(task.evaluation)
    )
    check_tools(task, args)
    refuse_without_reference(rewards.funcs, args)
    refuse_inexact(args, strategy)
    refuse_columns(strategy, None if absent else {name for row in task.train for name in row})
    if online_audit(config.audit.every, config.audit.window):
        refuse_online(args, strategy)
    asked = any(map(reads_reference, rewards.funcs))
    refuse_refill(config.sampling.refill, task.environment is not None, asked, task.train[0])
    check_copies(strategy, planned_machines(config).sharding or sharding_now())
    check_length(args)
    check_trackers(args)
    if not command.dry_run:
        check_push(config)
    data = absent or _data_in_words(args, len(task.train), command.choices["task"])
    if task.evaluation:
        check_evaluation(args)
    return GRPOJob(
        command=command,
        folder=folder,
        credit=strategy.name,
        strategy=strategy,
        task=task,
        args=args,
        has_reference=args.beta != 0 or strategy.holds_start,
        loads_reference=args.beta != 0,
        rewards=rewards,
        data=data,
        has_rows=not absent,
    )


def _data_in_words(args: Any, prompts: int, task: str) -> str:
    left_out = prompts_left_out(args, prompts, task)
    return f"{prompts} prompts" + say_left_out(left_out, prompts, "prompts, which fill no batch", args.shuffle_dataset)


def _task_or_reason(command: Command) -> tuple[Task, str]:
    """The task and ""; for a dry run of a data set that cannot be had from the hub, a task of one empty row and why."""
    try:
        return build_task(command.config), ""
    except ConfigError as error:
        if not command.dry_run or command.config.task.get("_target_") != "tasks.hub.hub":
            raise
        return Task("absent", [{"prompt": ""}], [], [], []), f"not to be had here, so not counted ({error})"


def prepare_sft(command: Command) -> LikelihoodJob | None:
    """The job of `train_sft.py`; None and errors as `prepare_grpo`."""
    credit = f"sft_{command.choices['weight']}"
    return _prepare_likelihood(command, credit, spoken_for=("weight",), whole=True)


def prepare_lhts(command: Command) -> LikelihoodJob | None:
    """The job of `train_lhts.py`; None and errors as `prepare_grpo`."""
    config = command.config
    tau = tuple(config.tau) if OmegaConf.is_list(config.tau) else config.tau
    settings = {key: config[key] for key in ("horizon", "clamp", "kl", "self_samples", "baseline")}
    if config.max_new_tokens is not None:
        settings["max_new_tokens"] = config.max_new_tokens
    lhts = LHTS(tau=tau, **settings)  # tau=0 and the like end the run here
    horizon = lhts.horizon or "all"
    credit = f"lhts_tau{'-'.join(map(_short, lhts.taus))}_H{horizon}"
    job = _prepare_likelihood(command, credit, spoken_for=("tau", "horizon"))
    if job is None:
        return None
    if config.max_new_tokens is None and job.task.max_completion_length:
        lhts = replace(lhts, max_new_tokens=job.task.max_completion_length)
    job.args.eval_on_start = False
    return replace(
        job,
        has_reference=True,
        trainer=LHTSTrainer,
        options={"lhts": lhts},
        target=(f"target   sequence temperature tau={lhts.tau}, horizon {horizon}, KL {lhts.kl}",),
        has_comparable_loss=False,
        scoring=_by_the_frozen_model,
    )


def _by_the_frozen_model(trainer: LHTSTrainer) -> Callable:
    """The trained model writes at its lowest tau, the frozen one scores."""
    trainer.set_tau(trainer.lhts.taus[0])
    return trainer.scoring


def _short(tau: float) -> str:
    return f"{tau:g}" if float(f"{tau:g}") == tau else repr(tau)


def _prepare_likelihood(
    command: Command, credit: str, spoken_for: Collection[str], whole: bool = False
) -> LikelihoodJob | None:
    """Plain likelihood training. credit: what summary.json and the folder call the run; spoken_for: settings that it tells;
    whole: conversations are learnt whole, the assistant's messages of them."""
    config, choices = command.config, command.choices
    if config.examples is not None:
        check_counts(examples=config.examples)
    check_counts(0, probe=config.probe, eval_examples=config.get("eval_examples") or 0)
    folder = open_folder(config, {**choices, "credit": credit}, command.overrides, spoken_for)
    if folder is None:
        return None
    strategy = build_weight(config.weight, choices["weight"])
    task = build_task(config)
    fixed = {"output_dir": str(folder.checkpoints), "seed": config.seed, "disable_tqdm": True}
    args = build_args(config, _class_of(command, SFTConfig), **fixed)
    refuse_inexact_sft(args, strategy, {})
    check_length(args)
    check_trackers(args)
    if not command.dry_run:
        check_push(config)
    train, evaluation = texts_of(task, config, whole=whole)
    if "messages" in train[0] and not any(word_of(one).name == _MASK for one in command.overrides):
        args.assistant_only_loss = True
    if not args.packing:
        texts_left_out(args, len(train), choices["task"])
    if not evaluation:
        args.eval_on_start = False
    return LikelihoodJob(
        command=command,
        folder=folder,
        credit=credit,
        strategy=strategy,
        task=task,
        args=args,
        train=train,
        evaluation=evaluation,
        trainer=CreditSFTTrainer,
    )


def _class_of(command: Command, config_class: type) -> type:
    """TRL's config class; for a dry run one that counts the processes that are planned."""
    return as_if_on(planned_machines(command.config).ranks, config_class) if command.dry_run else config_class


def build_weight(node: DictConfig, name: str) -> Strategy:
    """The `weight` node as the strategy that the trainer asks.

    Raises:
        ConfigError: it cannot be imported, or needs what likelihood training does not have.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    check_keys("weight", plain, f" (weight={name})")
    whole = {"_target_": "credit.strategy.Strategy", "weight": plain, "name": name}
    try:
        strategy = sft_strategy(make_strategy(OmegaConf.create(whole)))
    except ConfigError as error:
        raise ConfigError(str(error).replace("credit:", "weight:", 1)) from error
    try:  # two texts of one and two tokens: gamma=fast and the like are found before a model is loaded
        with untouched(strategy):
            weigh(strategy, torch.tensor([1, 2]), 4, torch.tensor([[1, 0], [1, 1]]))
    except Exception as error:
        given = {key: value for key, value in plain.items() if key != "_target_"}
        raise ConfigError(f"weight={name} with {given or 'its defaults'} fails on a batch: {error}") from error
    return strategy
