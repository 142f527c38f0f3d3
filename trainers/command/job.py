"""A command as one thing: everything that a training run needs and that can be had, and checked, without a model.

trainers/command/prepare.py makes it, trainers/run/ carries it on to a finished folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from credit.strategy import Strategy
from tasks.base import Row, Task
from trainers.command.build import Rewards
from trainers.command.cli import Command
from trainers.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run.

    Args:
        command: the composed command line; its settings that no other field holds (`show`, `overwrite`, `record`, ...).
        folder: where it writes, found free or resumable.
        credit: what summary.json and the pictures call it.
        strategy: its credit.
        task: rows and rewards.
        args: TRL's config object. The run turns `eval_on_start` off where it resumes, and fills in `model_init_kwargs`.
        has_reference: the model as it is at the start stays in use; loads_reference: TRL loads that one by its name.
    """

    command: Command
    folder: RunFolder
    credit: str
    strategy: Strategy
    task: Task
    args: Any
    has_reference: bool = False
    loads_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class GRPOJob(Job):
    """train_grpo.py. data: words for the prompts, with those that an epoch does not reach. has_rows: false where a dry run
    could not have the task, which then has none."""

    rewards: Rewards
    data: str
    has_rows: bool = True


@dataclass(frozen=True, kw_only=True)
class LikelihoodJob(Job):
    """train_sft.py and train_lhts.py, told apart by what stands here.

    Args:
        train, evaluation: TRL's prompt-completion rows, no row in both.
        trainer: the class of the trainer; options: what it takes besides.
        target: a line for the announcement where the texts themselves are not what is learnt.
        has_comparable_loss: it is judged by the held-out loss before and after; else by what the model writes.
        scoring: trainer -> what opens the model that scores what the trained one writes; None: itself.
    """

    train: list[Row]
    evaluation: list[Row]
    trainer: type
    options: Mapping[str, Any] = field(default_factory=dict)
    target: tuple[str, ...] = ()
    has_comparable_loss: bool = True
    scoring: Callable[[Any], Callable] | None = None
