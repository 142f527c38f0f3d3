"""What a run hands over to an audit of it: the policy's weights under the start that the run had, critics, and what members remember.

As where a run is resumed, the trainer is built on the policy that the run began with, so that the reference of a KL term and whatever
else is kept of the start are the run's, and the weights come afterwards. What members remember stands in checkpoints only; it is that
of the audited policy where the checkpoint holds the same weights.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.compose import ConfigError
from credit.strategy import Strategy
from trainers.audit.trainer import AuditTrainer
from trainers.command.audit.of_run import Origin
from trainers.critic.base import FOLDER
from trainers.model.adapters import BASE
from trainers.model.policy import Policy
from trainers.run.files import CHECKPOINTS
from trainers.run.start import name_start
from trainers.seam.members import AXES, FILE, keepers_of
from trainers.seam.resume import REFERENCE
from trainers.signals.models import TrainerModels

_OWN = (*AXES, "name", "critic")  # keys of a strategy's node that no provider is made of


@dataclass(frozen=True)
class HandedOver:
    """What a run hands over to an audit.

    Args:
        origin: where its policy comes from; None: no run is audited.
        from_start: the trainer is built on what the run began with, since something reads that.
        memory: the checkpoint whose members' memory goes with the audited weights.
    """

    origin: Origin | None = None
    from_start: bool = False
    memory: Path | None = None


def reads_start(args: Any, strategies: Sequence[Strategy]) -> bool:
    """Whether something of the audit is made of the policy that the run began with. `args` is a `trl.GRPOConfig`."""
    makers = [provider for strategy in strategies for provider, _ in strategy.makers()]
    return bool(args.beta) or any(callable(getattr(provider, "prepare", None)) for provider in makers)


def checkpoint_that_remembers(origin: Origin, args: Any, strategies: Sequence[Strategy]) -> Path | None:
    """The checkpoint in which members remember what they did with the audited weights; None where there is none, or nobody asks."""
    if not (getattr(args, "sync_ref_model", False) or any(keepers_of(strategy) for strategy in strategies)):
        return None
    if origin.place is None:
        return None
    if origin.place.parent.name == CHECKPOINTS:
        return origin.place
    checkpoints = sorted((origin.run / CHECKPOINTS).glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    return next((folder for folder in reversed(checkpoints) if _same_weights(origin.place, folder)), None)


def _same_weights(one: Path, other: Path) -> bool:
    names = [file.name for kind in ("safetensors", "bin") for file in one.glob(f"*model*.{kind}")]
    return bool(names) and not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


def call_by_start(policy: Policy, origin: Origin) -> None:
    """TRL loads a reference by the model's name, and the run has kept the start where it had none of its own."""
    if policy.unsaved and (kept := origin.run / BASE).is_dir():
        name_start(policy, str(kept.absolute()))


def take_over(trainer: AuditTrainer, given: HandedOver, nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Puts the run's weights, critics and memories where they belong; says of which it did. Call it on all ranks.

    Args:
        nodes: of each candidate the node that its strategy was made of.

    Raises:
        ConfigError: the run moved its reference, and no checkpoint holds where to.
    """
    origin, told = given.origin, []
    if origin is None:
        return told
    if given.from_start:
        trainer.put_policy(origin.place)
        if trainer.moves_reference:
            _put_reference(trainer, origin, given.memory)
        told.append(f"start    the reference, and what else is kept of the start, are what {origin.run} began with")
    critics = _critics(trainer, origin.place)
    told += [f"critic   of {', '.join(critics)}: the run's, which learns on in the warm-up"] if critics else []
    knows = _members(trainer, given, nodes)
    told += [f"memory   of {', '.join(knows)}: the run's, of {given.memory}"] if knows else []
    learners = [candidate for candidate in trainer.candidates if candidate.learns and candidate.name in nodes]
    if new := [candidate for candidate in learners if candidate.name not in {*critics, *knows}]:
        lost = given.memory is None and any(keepers_of(candidate.strategy) for candidate in new)
        why = "no checkpoint of the run holds these weights" if lost and origin.model else "the run has none for them"
        names = ", ".join(candidate.name for candidate in new)
        told.append(f"note     begun anew in the warm-up, with no critic or memory of the run: {names} ({why})")
    return told


def _put_reference(trainer: AuditTrainer, origin: Origin, memory: Path | None) -> None:
    if memory is None:
        raise ConfigError(
            f"trainer.sync_ref_model=true moved the run's reference, and none of its checkpoints holds the weights of {origin.place}. "
            f"Name one of them: run={origin.run}/{CHECKPOINTS}/checkpoint-..."
        )
    trainer.put_reference(memory / REFERENCE)


def _critics(trainer: AuditTrainer, model: Path | None) -> list[str]:
    """Candidates that have a critic of the run's kind; it was given to them."""
    taught = []
    for candidate in trainer.candidates if model and (model / FOLDER).is_dir() else ():
        if candidate.critic is not None:
            try:
                candidate.critic.load_weights(model)
            except ValueError:
                continue  # another kind
            taught.append(candidate.name)
    return taught


def _members(trainer: AuditTrainer, given: HandedOver, nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Candidates of which a part was made as the run's was; what that remembered was given to it."""
    file = given.memory / FILE if given.memory else None
    states = torch.load(file, weights_only=True, map_location="cpu")["states"] if file and file.is_file() else {}
    of_run: Mapping[str, Any] = given.origin.credit if given.origin else {}
    knows = []
    for candidate in trainer.candidates:
        node = nodes.get(candidate.name)
        for part, keeper in ({} if node is None else keepers_of(candidate.strategy)).items():
            if part in states and _alike(node or {}, of_run, part):
                keeper.load_state_dict(states[part])
                knows.append(candidate.name)
            elif given.from_start and _is_an_average(keeper):
                keeper.prepare(TrainerModels(trainer))  # of the policy, and not of its start
    return list(dict.fromkeys(knows))


def _is_an_average(keeper: Any) -> bool:
    return callable(getattr(keeper, "prepare", None)) and not getattr(keeper, "holds_start", False)


def _alike(node: Mapping[str, Any], of_run: Mapping[str, Any], part: str) -> bool:
    """Whether the part was made of the same settings in both."""
    keys = [part] if part in AXES else sorted({*node, *of_run} - set(_OWN))
    return all(json.dumps(node.get(key), sort_keys=True) == json.dumps(of_run.get(key), sort_keys=True) for key in keys)
