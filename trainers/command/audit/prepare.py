"""`python -m lab.audit`: from its words to audits, everything checked that can be without a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError
from trl import GRPOConfig

from configs.command_line.combinations import combinations_of, is_about_credit
from configs.compose import ConfigError, compose_config, compose_strategy, make_strategy
from credit.strategy import Strategy
from sampling.draws import check_counts
from tasks.base import Task
from trainers.audit.candidates import LENGTH, REFERENCE, learns, refuse_together
from trainers.audit.engine import AuditPlan
from trainers.audit.parameters import ADAPTER, ALL, check_pattern
from trainers.audit.taken_over import HandedOver, checkpoint_that_remembers, reads_start
from trainers.command.audit.args import audit_args
from trainers.command.audit.of_run import Origin, with_run
from trainers.command.audit.recorded import (
    digest_of_written,
    read_written,
    recorded_for,
    rewards_of_written,
    task_of_written,
)
from trainers.command.audit.stages import Stage, run_of, stage_at, stages_of
from trainers.command.before import prompts_left_out
from trainers.command.behind.brings import HF
from trainers.command.build import Rewards, build_rewards, build_task, grpo_args
from trainers.command.cli import Command
from trainers.command.recorded.groups import Recorded
from trainers.command.tools import build_tools, check_tools
from trainers.command.world_size import sharding_now, world_size
from trainers.evaluation.models import Named
from trainers.seam.reference_reward import reads_reference, refuse_without_reference
from trainers.seam.refusals import refuse_inexact
from userio.digest import digest_of_own_code, digest_of_value
from userio.words import word_of

SHARDED = (
    "an audit reads gradients off whole weights, and FSDP and DeepSpeed deal them out. Launch it on one process, or on several with "
    "configs/accelerate/multi_gpu.yaml; parameters=adapter, or a regular expression, makes the gradient smaller."
)
_FEWEST, _BATCHES = 4, 32  # batches that an interval can be made of; that are sampled where nothing else is said
# Settings that change how fast it goes and what is written, and not what a batch gives; of completions= what is in the file counts.
_OF_FILE = ("completions", "completion_column", "recorded_rewards")
_NO_FACTS = ("checkpoints", "batches", "shares", "audits", "out", "overwrite", "processes", *_OF_FILE)
_OF_MODEL = ("model", "files of the model", "start", "memory")  # facts in which the checkpoints of one run differ


@dataclass(frozen=True, kw_only=True)
class AuditJob:
    """What an audit does.

    Args:
        command: its words, composed, with the settings of the run that they name.
        strategies: those that are compared, by the names they were given; the reference is among them.
        task, rewards: as in training. args: TRL's config of the audit.
        plan: how much is measured.
        model: what is audited, in words. stage: where in its training it stands, if that is known.
        folder: of the results.
        facts: all that a batch depends on.
        nodes: of each strategy the node that it was made of.
        handed_over: what the run that is audited hands over.
        recorded: completions in the place of those that would be sampled; None: they are sampled.
    """

    command: Command
    strategies: dict[str, Strategy]
    task: Task
    rewards: Rewards
    args: GRPOConfig
    plan: AuditPlan
    model: str
    stage: Stage | None
    folder: Path
    facts: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    handed_over: HandedOver
    recorded: Recorded | None = None

    @property
    def policy_config(self) -> DictConfig:
        """The configuration with the model that is built first."""
        config = self.command.config
        if not self.handed_over.from_start:
            return config
        config = config.copy()
        config.model = self.handed_over.origin.model
        return config


def prepare_audits(command: Command) -> list[AuditJob]:
    """The audits of a command: one, or that of each checkpoint, in folders beside each other.

    Raises:
        ConfigError, ValueError: with the remedy.
    """
    config = command.config
    if config.checkpoints is None:
        return [prepare_audit(command)]
    if config.run is None:
        raise ConfigError("checkpoints= are those of a run: run=runs/... checkpoints=all.")
    if any(re.split(r"[./]", word_of(word).name)[0] == "model" for word in command.overrides):
        raise ConfigError("checkpoints= says which models of the run are audited; leave out model=.")
    stages = stages_of(run_of(config.run), config.checkpoints)
    first = prepare_audit(command, stages[0])
    return [first, *(_at(command, stage, first) for stage in stages[1:])]


def prepare_audit(command: Command, stage: Stage | None = None) -> AuditJob:
    """stage: one of several checkpoints. Raises ConfigError, ValueError: with the remedy."""
    if sharding_now() and not command.dry_run:
        raise ConfigError(SHARDED)
    command, origin = with_run(command, stage)
    config = command.config
    _check_numbers(config)
    words, strategies, nodes = _strategies(command)
    task = build_task(config)
    task.tools = [*task.tools, *build_tools(config.tools)]
    written = read_written(config, task)
    rewards = build_rewards(config, task) if written is None else rewards_of_written(config, task, written)
    task = task if written is None else task_of_written(task, written)
    trained = grpo_args(config, GRPOConfig, Path("unused"), rewards, has_evaluation=False)
    asking = [name for name, func in zip(rewards.names, rewards.funcs, strict=True) if reads_reference(func)]
    if asking and origin is None:
        raise ConfigError(
            f"the reward {asking[0]!r} is the likelihood under a run's start, and nothing is trained here. Name the run: run=..."
        )
    refuse_without_reference(rewards.funcs, trained)
    check_tools(task, trained)
    for strategy in strategies.values():
        refuse_inexact(trained, strategy)
    refuse_together(strategies)
    handed_over = _handed_over(origin, trained, strategies)
    batches, recorded, facts = config.batches or _BATCHES, None, _facts(command, words, task, handed_over)
    if written is None:
        prompts_left_out(trained, len(task.train), command.choices["task"])
    else:
        warm = config.warmup if any(map(learns, strategies.values())) else 0
        recorded = recorded_for(config, written, rewards, trained, _FEWEST, warm)
        batches = recorded.batches - warm
        facts |= {"completions": digest_of_written(written), "recorded_rewards": config.recorded_rewards}
    folder = _folder(command, task, facts, stage)
    stage = stage or _stage(config)
    return AuditJob(
        command=command,
        strategies=strategies,
        task=task,
        rewards=rewards,
        args=audit_args(config, trained, folder, samples=written is None),
        plan=AuditPlan(
            batches=batches,
            share_batches=min(config.shares, batches),
            warmup=config.warmup,
            sketch=config.sketch,
            parameters=config.parameters,
            seed=config.seed,
        ),
        model=_in_words(command, stage),
        stage=stage,
        folder=folder,
        facts=facts,
        nodes=nodes,
        handed_over=handed_over,
        recorded=recorded,
    )


def _at(command: Command, stage: Stage, other: AuditJob) -> AuditJob:
    """The same audit of another checkpoint. Strategies are made again, since some of them learn."""
    command, origin = with_run(command, stage)
    words, strategies, nodes = _strategies(command)
    trained = grpo_args(command.config, GRPOConfig, Path("unused"), other.rewards, has_evaluation=False)
    handed_over = _handed_over(origin, trained, strategies)
    of_file = {key: other.facts[key] for key in _OF_FILE if key in other.facts}
    facts = _facts(command, words, other.task, handed_over) | of_file
    folder = _folder(command, other.task, facts, stage)
    return replace(
        other,
        command=command,
        strategies=strategies,
        args=audit_args(command.config, trained, folder, samples=other.recorded is None),
        model=_in_words(command, stage),
        stage=stage,
        folder=folder,
        facts=facts,
        nodes=nodes,
        handed_over=handed_over,
    )


def _handed_over(origin: Origin | None, trained: GRPOConfig, strategies: Mapping[str, Strategy]) -> HandedOver:
    if origin is None:
        return HandedOver()
    members = list(strategies.values())
    from_start = origin.model is not None and reads_start(trained, members)
    return HandedOver(origin, from_start, checkpoint_that_remembers(origin, trained, members))


def _stage(config: Any) -> Stage | None:
    name = config.model.get("name") if config.model.get("_target_") == HF else None
    return stage_at(str(name)) if name else None


def _in_words(command: Command, stage: Stage | None) -> str:
    config = command.config
    if stage is not None and config.run is not None:
        return stage.run if stage.step is None else f"{stage.run} at step {stage.step}"
    return config.run or config.model.get("name") or command.choices["model"]


def _folder(command: Command, task: Task, facts: Mapping[str, Any], stage: Stage | None) -> Path:
    """Of one audit; those of several checkpoints stand in the folder of their comparison."""
    config, several = command.config, stage is not None
    same = {key: value for key, value in facts.items() if not (several and key in _OF_MODEL)}
    place = Path(
        config.out or Path(config.audits) / task.name / f"{_label(command)}-{digest_of_value(same)[:8]}"
    ).expanduser()
    return place / f"step{stage.step}" if stage is not None else place


def _check_numbers(config: Any) -> None:
    optional = {name: config[name] for name in ("batches", "sketch", "rows") if config[name] is not None}
    check_counts(**optional)
    check_counts(0, shares=config.shares, warmup=config.warmup)
    if config.batches is not None and config.batches < _FEWEST:
        raise ConfigError(f"batches={config.batches}: no interval can be made of fewer than {_FEWEST}. Set batches=32.")
    if config.parameters not in (ALL, ADAPTER):
        check_pattern(config.parameters)
    settings = config.trainer
    if settings.entropy_coef or settings.use_adaptive_entropy:
        raise ConfigError(
            "an audit compares credit, and TRL's entropy bonus has a gradient of its own beside it. Set trainer.entropy_coef=0 "
            "trainer.use_adaptive_entropy=false."
        )


def _strategies(command: Command) -> tuple[dict[str, Sequence[str]], dict[str, Strategy], dict[str, dict[str, Any]]]:
    """(words, strategies, nodes they were made of) by name; the reference last where it was not asked for."""
    given = [word for word in command.apart if is_about_credit(word)]
    if given and not any(word.startswith("credit=") for word in given):
        given = [f"credit={command.choices['credit']}", *given]
    found = combinations_of(given)
    words: dict[str, Sequence[str]] = dict(found) if given else {}
    if len(words) < len(found) * bool(given):
        raise ConfigError(f"credit: a strategy is named twice ({', '.join(name for name, _ in found)}).")
    composed: dict[str, DictConfig] = {
        name: _among(command.config, name, compose_config("strategy", own, command.config_dirs).credit)
        for name, own in words.items()
    }
    strategies = {name: make_strategy(node) for name, node in composed.items()}
    nodes: dict[str, Any] = {name: OmegaConf.to_container(node, resolve=True) for name, node in composed.items()}
    if not given:
        own = make_strategy(command.config.credit)
        nodes = {own.name: OmegaConf.to_container(command.config.credit, resolve=True)}
        words, strategies = {own.name: [json.dumps(nodes[own.name], sort_keys=True, default=str)]}, {own.name: own}
    if LENGTH in strategies:
        raise ConfigError(
            f"a strategy cannot be called {LENGTH!r} here: that is the push on length. Give its YAML another name."
        )
    if REFERENCE not in strategies:
        words[REFERENCE] = (f"credit={REFERENCE}",)
        strategies[REFERENCE] = compose_strategy(words[REFERENCE])
    return words, strategies, nodes


def _among(config: DictConfig, name: str, node: DictConfig) -> DictConfig:
    """The node of a strategy among the settings of the command, which it may refer to: `count: ${task.count}`."""
    whole = config.copy()
    with open_dict(whole):
        whole.credit = node
    try:
        OmegaConf.resolve(whole.credit)
    except InterpolationResolutionError as error:
        raise ConfigError(f"credit={name}: {str(error).splitlines()[0]}") from None
    return whole.credit


def _facts(command: Command, words: Mapping[str, Sequence[str]], task: Task, given: HandedOver) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(command.config, resolve=True)
    name = plain["model"].get("name") if plain["model"].get("_target_") == HF else None
    return {
        "strategies": [[name, *own] for name, own in words.items()],  # in the order in which their numbers are kept
        "task": task.name,
        "rows": digest_of_value(task.train),
        **{
            key: value for key, value in plain.items() if key not in (*_NO_FACTS, "credit", "task", "experiment", "run")
        },
        "files of the model": Named(str(name), str(Path(name).expanduser())).fingerprint() if name else None,
        "own code": digest_of_own_code(),
        "processes of the audit": world_size(),
        **({"start": OmegaConf.to_container(given.origin.model, resolve=True)} if given.from_start else {}),
        **({"memory": str(given.memory)} if given.memory else {}),
    }


def _label(command: Command) -> str:
    config = command.config
    name = config.run or config.model.get("name") or command.choices["model"]
    return f"{re.sub(r'[^0-9A-Za-z_.-]+', '-', str(name)).strip('-.')[-50:] or 'model'}-seed{config.seed}"
