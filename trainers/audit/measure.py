"""An audit that is prepared, carried out: the policy loaded, the batches measured, the record written."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PrinterCallback, ProgressCallback

from configs.compose import ConfigError
from trainers.audit.candidates import LENGTH, REFERENCE, Candidate
from trainers.audit.collected import Collected
from trainers.audit.cost import AuditProgress, cost_of, forecast, sampled
from trainers.audit.engine import Engine
from trainers.audit.given.drift import drift_of
from trainers.audit.given.tokens import Tokenised, take_recorded
from trainers.audit.store import BATCHES, RESULT, SETTINGS, Store
from trainers.audit.taken_over import call_by_start, take_over
from trainers.audit.trainer import AuditTrainer
from trainers.command.audit.prepare import SHARDED, AuditJob
from trainers.command.build import build_policy, to_train
from trainers.command.reward_tags import check_special_tokens, opening_notes
from trainers.command.rows import as_dataset
from trainers.model.policy import Policy, parameters_in_words
from trainers.run.folder import check_place
from trainers.run.start import reference_options
from trainers.run.tell.facts import command_line, versions
from userio.git import code_commit, commit_here

# transformers renames this option for v6; TRL reads the old name.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated", category=FutureWarning)


def collected_by(job: AuditJob) -> Collected:
    """Measures what is not there yet, and says what it costs before. Call it on all ranks; all get the record, and the main process
    writes it.

    Raises:
        ValueError: what can only be known with the model, with the remedy.
    """
    refuse_other_audit(job)
    if (kept := whole_record(job)) is not None:
        return kept
    config, started = job.command.config, time.perf_counter()
    trainer, policy, told = audited_trainer(job)
    tokens = take_recorded(trainer, job.recorded)
    store = Store(job.folder, trainer.accelerator.is_main_process)
    progress = AuditProgress(job.plan.batches, started)
    engine = Engine(trainer, job.plan, store, job.rewards.names, progress)
    _announce(job, trainer, engine, policy, told, tokens)
    store.begin(job.facts, config.overwrite)
    trainer.accelerator.wait_for_everyone()
    collected = engine.collect(_about(job, trainer, tokens))
    collected.about |= sampled(collected.facts) | cost_of(collected.facts)
    if job.recorded is not None:
        found = drift_of([one["drift"] for one in collected.facts])
        collected.about["recorded"] |= {name: value for name, value in found.items() if value is not None}
    if trainer.accelerator.is_main_process:
        collected.save(job.folder / RESULT)
    trainer.accelerator.wait_for_everyone()
    return collected


def whole_record(job: AuditJob) -> Collected | None:
    """The record, where the same was measured whole before: then no model is loaded."""
    if job.command.config.overwrite or not (job.folder / RESULT).is_file() or not (job.folder / SETTINGS).is_file():
        return None
    try:
        kept = Collected.load(job.folder / RESULT)
    except (OSError, RuntimeError, TypeError, EOFError, UnpicklingError):
        return None  # cut off while it was written; the batches are there
    same = kept.batches == job.plan.batches and kept.about.get("shares_of") == job.plan.share_batches
    return kept if same else None


def refuse_other_audit(job: AuditJob) -> None:
    """Raises ConfigError where the folder holds batches of another audit, or something that is none, or cannot be written."""
    check_place(job.folder, "out=...")
    batches = job.folder / BATCHES
    try:
        before = json.loads((job.folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if job.command.config.overwrite:
        if job.folder.is_dir() and any(job.folder.iterdir()) and before is None:
            raise ConfigError(
                f"{job.folder} holds something that is no audit; overwrite=true will not touch it. Name another out=..."
            )
        return
    if not batches.is_dir() or before is None:
        return
    now = json.loads(json.dumps(job.facts, default=str))
    if other := [key for key in now if before.get(key) != now[key]]:
        raise ConfigError(
            f"{job.folder} holds batches of another audit ({', '.join(other)} differ). Name another folder (out=...), or measure "
            "again: overwrite=true."
        )


def audited_trainer(job: AuditJob) -> tuple[AuditTrainer, Policy, list[str]]:
    """The trainer on the audited policy, the policy as it was built, and what a run has handed over, in words.

    Raises:
        ValueError: what can only be known with the model, with the remedy.
    """
    policy = _policy(job)
    check_special_tokens(job.rewards.funcs, policy.tokenizer, f"the tokenizer of {job.model}")
    trainer = _trainer(job, policy)
    return trainer, policy, take_over(trainer, job.handed_over, job.nodes)


def _policy(job: AuditJob) -> Policy:
    try:
        return build_policy(to_train(job.policy_config), job.task, job.args.max_completion_length or 0)
    except ConfigError as error:
        origin = job.handed_over.origin
        if not job.handed_over.from_start or origin is None:
            raise
        instead = f"model=hf model.name={origin.place}"
        raise ConfigError(
            f"what run={origin.run} began with is asked for (a KL term, or a signal that reads the start), and cannot be had: {error} "
            f"Audit without it: trainer.beta=0 and strategies that read none, or {instead}, which is then its own start."
        ) from None


def _trainer(job: AuditJob, policy: Policy) -> AuditTrainer:
    origin = job.handed_over.origin if job.handed_over.from_start else None
    if origin is not None:
        call_by_start(policy, origin)
    elif job.args.beta and policy.unsaved:
        raise ConfigError(
            "trainer.beta needs the policy under a name, and an adapter was merged into this one. Save it merged first."
        )
    if job.args.beta and not job.args.model_init_kwargs:
        job.args.model_init_kwargs = reference_options(policy)
    # An adapter's first weights are random.
    set_seed(origin.seed if origin else job.args.seed)
    given = {"tools": job.task.tools, "environment_factory": job.task.environment}
    trainer = AuditTrainer(
        model=policy.model,
        reward_funcs=job.rewards.funcs,
        args=job.args,
        train_dataset=as_dataset(job.task.train),
        processing_class=policy.tokenizer,
        peft_config=policy.peft_config,
        candidates=candidates_of(job),
        **{name: value for name, value in given.items() if value},
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(SHARDED)
    if trainer.aux_loss_enabled:
        raise ConfigError(
            "the balancing loss of a mixture of experts has a gradient of its own beside the credit's. Set trainer.router_aux_loss_coef=0."
        )
    return trainer


def candidates_of(job: AuditJob) -> list[Candidate]:
    """The reference first, which is sampled under; the pseudo-strategy for length last."""
    reference = job.strategies[REFERENCE]
    others = [Candidate(name, strategy) for name, strategy in job.strategies.items() if name != REFERENCE]
    return [Candidate(REFERENCE, reference), *others, Candidate(LENGTH, reference, of_length=True)]


def _announce(
    job: AuditJob,
    trainer: AuditTrainer,
    engine: Engine,
    policy: Policy,
    told: Sequence[str],
    tokens: Tokenised | None,
) -> None:
    config, state = job.command.config, PartialState()
    names = [name for name in job.strategies if name != REFERENCE]
    chosen = sum(parameter.numel() for parameter in engine.parameters)
    lines = [
        f"credit   {', '.join(names) or REFERENCE}, against {REFERENCE} on the same completions",
        f"task     {job.command.choices['task']}: {len(job.task.train)} prompts",
        f"model    {job.model}: {parameters_in_words(trainer.model)}; gradients of {chosen / 1e6:.2f} M ({config.parameters})",
        *forecast(job, engine.sketch),
        f"folder   {job.folder}",
        *opening_notes(
            job.rewards.funcs,
            policy.tokenizer,
            [row["prompt"] for row in job.task.train],
            job.args.chat_template_kwargs,
        ),
    ]
    if tokens is not None:
        lines += tokens.in_words(job.args.max_completion_length)
    lines += told
    if job.args.beta and not job.handed_over.from_start:
        lines.append(
            "note     the reference of the KL term is the audited policy itself, so that the term has no gradient here"
        )
    state.print("\n".join(lines))


def _about(job: AuditJob, trainer: AuditTrainer, tokens: Tokenised | None) -> dict[str, Any]:
    given = job.recorded
    recorded = {
        "completions": len(given.rows), "of": given.total, "file": given.source, "prompts": given.prompts,
        "left over": given.alone + given.surplus, **+tokens.counts,
    } if given and tokens else None  # fmt: skip
    ours, theirs = code_commit(Path(__file__).resolve()), commit_here()
    return {
        "command": command_line(),
        "model": str(job.model),
        **({"run": job.stage.run, "step": job.stage.step} if job.stage is not None else {}),
        "task": str(job.command.choices["task"]),
        **({"recorded": recorded} if recorded else {}),
        "reward": dict(zip(job.rewards.names, map(float, job.args.reward_weights), strict=True)),
        "commit": ours and ours.id,
        "commit_dirty": ours and ours.is_dirty,
        "project": theirs and theirs.id,
        "shares_of": job.plan.share_batches,
        "processes": trainer.accelerator.num_processes,
        "device": str(trainer.accelerator.device),
        "versions": versions(),
    }
