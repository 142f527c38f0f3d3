"""One GRPO run: prepare, train, finish."""

from __future__ import annotations

import warnings
from typing import Any

from accelerate import PartialState
from trl import GRPOConfig

from configs.command_line.schema import register
from trainers.command.build import load_policy
from trainers.command.cli import Command
from trainers.command.job import GRPOJob
from trainers.command.prepare import prepare_grpo
from trainers.command.reward_tags import check_special_tokens, opening_notes
from trainers.command.rows import as_dataset
from trainers.evaluation.history import EvaluationHistory, before_after
from trainers.grpo import CreditGRPOTrainer
from trainers.model.policy import Policy
from trainers.plan.dry_run import show_plan
from trainers.publish.push import push
from trainers.refill.refusals import note_of_refill
from trainers.run.common import (
    LAST_STEPS,
    Begun,
    announce,
    before_and_after,
    begin,
    conclude,
    identity,
    mean,
    rows_per_step,
    train,
)
from trainers.run.curves import draw_curves
from trainers.run.ending import Ending
from trainers.run.files import read_metrics
from trainers.run.progress import MetricsFile, Progress
from trainers.run.recording import CreditRecords
from trainers.run.records import Recorder
from trainers.run.results import print_samples, results_table
from trainers.run.start import reference_options
from trainers.run.tell.idle import IdleSteps, idle_summary
from trainers.run.tell.online_audit import online_audit
from trainers.seam.reference_reward import note_of_target

# transformers renames this option for v6; TRL reads the old name, so both of us still use it.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated", category=FutureWarning)


def register_schema() -> None:
    register("grpo_schema", GRPOConfig)


def run_grpo(command: Command) -> int | None:
    """Trains. Everything that can be wrong with the command is found before a model is loaded or a file written. Returns the
    exit status where that is not 0 (trainers/run/tell/idle.py).

    Raises:
        ValueError: with the remedy.
    """
    job = prepare_grpo(command)
    if job is not None and command.dry_run:
        return show_plan(job)
    if job is None:
        return None
    policy = load_policy(command.config, job.task, room=job.args.max_completion_length or 0)
    if policy is None:
        return None
    check_special_tokens(job.rewards.funcs, policy.tokenizer, f"the tokenizer of {command.choices['model']}")
    begun = begin(job, policy, _trainer)
    _record(job, begun.trainer)
    _announce(job, begun, policy)
    if job.task.evaluation:
        each = job.args.num_generations_eval or job.args.num_generations
        EvaluationHistory(job.folder.evaluations, job.rewards, job.task.evaluation, each).attach(begun.trainer)
    ending, seconds = train(job, begun)
    ending.evaluate()
    if PartialState().is_main_process:
        _finish(job, begun, seconds, ending)
    ending.close()
    if PartialState().is_main_process:
        push(command.config, job.folder)
    return ending.status


def _trainer(job: GRPOJob, policy: Policy) -> tuple[CreditGRPOTrainer, str]:
    if job.loads_reference and not job.args.model_init_kwargs:
        job.args.model_init_kwargs = reference_options(policy)
    metrics = MetricsFile(job.folder.metrics)
    trainer = CreditGRPOTrainer(
        model=policy.model,
        reward_funcs=job.rewards.funcs,
        args=job.args,
        train_dataset=as_dataset(job.task.train),
        eval_dataset=as_dataset(job.task.evaluation) if job.task.evaluation else None,
        processing_class=policy.tokenizer,
        peft_config=policy.peft_config,
        callbacks=[metrics, Progress(job.rewards.names), IdleSteps("reward", job.folder.metrics)],
        credit=job.strategy,
        refill=job.command.config.sampling.refill,
        **_tools(job),
    )
    metrics.put_first(trainer)
    return trainer, job.data


def _tools(job: GRPOJob) -> dict[str, Any]:
    """What the policy may call; nothing where it only writes, so that a TRL without tools is asked for none."""
    given = {"tools": job.task.tools, "environment_factory": job.task.environment}
    return {name: value for name, value in given.items() if value}


def _record(job: GRPOJob, trainer: CreditGRPOTrainer) -> None:
    config = job.command.config
    if config.record.every:
        recorder = Recorder(job.folder.records, config.record.every, config.record.completions, seed=config.seed)
        trainer.add_callback(CreditRecords(recorder, job.rewards.names))
    if audit := online_audit(config.audit.every, config.audit.window):
        trainer.add_callback(audit)


def _announce(job: GRPOJob, begun: Begun, policy: Policy) -> None:
    args, rewards, declared = job.args, job.rewards, job.strategy.declaration
    bias = {True: "unbiased in direction", False: "biased in direction", None: "bias unknown"}[declared.unbiased]
    credit = f"credit   {job.credit} ({bias}; weight depends on: {declared.weight_class or 'unknown'})"
    target = note_of_target(rewards.funcs, args.reward_weights or rewards.weights, args, job.strategy.kl_in_reward)
    prompts = [row["prompt"] for row in job.task.train]
    tags = opening_notes(rewards.funcs, policy.tokenizer, prompts, args.chat_template_kwargs)
    group = f", {args.num_generations} per prompt"
    refill = note_of_refill(job.command.config.sampling.refill)
    announce(job, begun, [credit], "completions", group, notes=[refill, target, *tags, begun.warning])


def _finish(job: GRPOJob, begun: Begun, seconds: float, ending: Ending) -> None:
    rows, command, names = read_metrics(job.folder.metrics), job.command, job.rewards.names
    summary = _summary(rows, job, begun, seconds)
    title = f"{command.choices['task']}, credit={job.credit}, seed {command.config.seed}"
    conclude(
        job,
        begun,
        ending,
        summary,
        draw=lambda: draw_curves(rows, title, job.folder.curves),
        table=lambda: results_table(rows, summary, names),
        show=lambda console: print_samples(console, begun.trainer, names, command.config.show),
        files="summary.json, metrics.jsonl, curves.png, config.yaml, model/",
    )


def _summary(rows: list[dict], job: GRPOJob, begun: Begun, seconds: float) -> dict[str, Any]:
    """The numbers a report needs. `seconds` counts training of this process, without evaluation of the end."""
    trainer, logged = begun.trainer, [row for row in rows if row.get("reward") is not None]
    before, after = before_and_after(rows, "eval_reward", trainer.state.global_step)
    rewards = [row["reward"] for row in logged]
    times = [row["step_time"] for row in logged if row.get("step_time") is not None]
    return {
        **identity(job, begun),
        "initial_reward": mean(rewards[:1]),
        "final_reward": mean(rewards[-LAST_STEPS:]),
        "eval_reward_before": before,
        "eval_reward_after": after,
        "evaluation": before_after(job.folder.evaluations, trainer.state.global_step),
        "tokens": int(logged[-1].get("num_tokens") or 0) if logged else 0,
        "seconds": round(seconds, 3),
        "seconds_per_step": mean(times),
        "world_size": trainer.accelerator.num_processes,
        "completions_per_step": rows_per_step(trainer),
        **idle_summary(rows, "reward"),
    }
