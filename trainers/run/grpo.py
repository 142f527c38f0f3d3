"""One GRPO run, from a composed command to a finished folder."""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from omegaconf import DictConfig
from transformers import PrinterCallback, ProgressCallback
from trl import GRPOConfig

from configs.schema import register
from rewards.build import check_weights
from trainers.command.before import (
    check_disk,
    check_evaluation,
    check_length,
    check_trackers,
    prompts_left_out,
    say_left_out,
)
from trainers.command.cli import Command
from trainers.command.prepare import Rewards, build_args, build_policy, build_rewards, build_strategy, build_task
from trainers.command.reward_tags import check_special_tokens, opening_notes
from trainers.command.rows import as_dataset
from trainers.grpo import CreditGRPOTrainer
from trainers.model.policy import count_parameters
from trainers.run.curves import draw_curves
from trainers.run.ending import Ending
from trainers.run.folder import RunFolder, before_and_after, read_metrics, run_folder, say_finished, write_text
from trainers.run.progress import MetricsFile, Progress
from trainers.run.recording import CreditRecords
from trainers.run.records import Recorder
from trainers.run.results import print_results
from trainers.run.start import check_start, keep_start, reference_options
from trainers.seam.reference_reward import note_of_target, refuse_without_reference
from trainers.seam.refusals import refuse_inexact

LAST_STEPS = 10

# transformers renames this option for v6; TRL reads the old name, so both of us still use it.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated", category=FutureWarning)


def register_schema() -> None:
    register("grpo_schema", GRPOConfig)


def run_grpo(command: Command) -> None:
    """Trains. Everything that can be wrong with the command is found before a model is loaded or a file written.

    Raises:
        ValueError: with the remedy.
    """
    config = command.config
    folder = run_folder(config, command.choices, command.overrides)
    folder.check(config)
    if folder.nothing_left(config):
        return say_finished(folder)
    strategy = build_strategy(config)
    task = build_task(config)
    rewards = build_rewards(config, task)
    args = _args(config, folder, rewards, has_evaluation=bool(task.evaluation))
    refuse_inexact(args, strategy)
    refuse_without_reference(rewards.funcs, args)
    check_length(args)
    check_trackers(args)
    left_out = prompts_left_out(args, len(task.train), command.choices["task"])
    if task.evaluation:
        check_evaluation(args)
    state = PartialState()
    policy = build_policy(config, task)
    if config.build_only:
        state.print("The model is built and cached; build_only=true stops here.")
        return
    check_special_tokens(rewards.funcs, policy.tokenizer, f"the tokenizer of {command.choices['model']}")
    check_start(policy, folder, config.overwrite, with_reference=args.beta != 0)
    with folder.as_it_was_if_refused(state.is_main_process):
        checkpoint = _start(folder, config, state)
        start = keep_start(policy, folder, state, with_reference=args.beta != 0)
        if args.beta and not args.model_init_kwargs:
            args.model_init_kwargs = reference_options(policy)
        if checkpoint:
            args.eval_on_start = False  # the first evaluation is in metrics.jsonl already
        set_seed(args.seed)  # an adapter's first weights are random; trl 1.8 draws them before it sets the seed
        trainer = CreditGRPOTrainer(
            model=policy.model,
            reward_funcs=rewards.funcs,
            args=args,
            train_dataset=as_dataset(task.train),
            eval_dataset=as_dataset(task.evaluation) if task.evaluation else None,
            processing_class=policy.tokenizer,
            peft_config=policy.peft_config,
            callbacks=[MetricsFile(folder.metrics), Progress(reward_names(rewards))],
            credit=strategy,
        )
        warning = check_disk(folder.path, trainer.model)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if config.record.every:
        recorder = Recorder(folder.path / "records", config.record.every, config.record.completions, seed=config.seed)
        CreditRecords(recorder, reward_names(rewards)).attach(trainer)
    target = note_of_target(rewards.funcs, args.reward_weights or rewards.weights, args, strategy.kl_in_reward)
    prompts = [row["prompt"] for row in task.train]
    notes = opening_notes(rewards.funcs, policy.tokenizer, prompts, args.chat_template_kwargs)
    notes = [*([target] if target else []), *notes]
    state.print("\n".join([announcement(trainer, command, folder, checkpoint, left_out, start), *notes]))
    if warning:
        state.print(warning)
    ending = Ending(trainer, folder.path)
    started = time.perf_counter()
    ending.train(checkpoint)
    seconds = time.perf_counter() - started
    ending.save(folder.model)
    ending.evaluate()
    if state.is_main_process:
        finish(folder, trainer, command, rewards, seconds, ending)
    ending.close()


def _args(config: DictConfig, folder: RunFolder, rewards: Rewards, has_evaluation: bool) -> GRPOConfig:
    fixed: dict[str, Any] = {"output_dir": str(folder.checkpoints), "seed": config.seed, "disable_tqdm": True}
    if not has_evaluation:
        fixed["eval_on_start"] = False
    if config.trainer.reward_weights is None:
        fixed["reward_weights"] = rewards.weights
    else:
        check_weights(list(config.trainer.reward_weights), rewards.funcs)
    return build_args(config, GRPOConfig, **fixed)


def _start(folder: RunFolder, config: DictConfig, state: PartialState) -> str | None:
    """The main process makes the folder; every rank learns which checkpoint to resume from."""
    found = [None]
    if state.is_main_process:
        checkpoint = folder.start(config, config.overwrite)
        found = [str(checkpoint) if checkpoint else None]
    if state.num_processes > 1:
        broadcast_object_list(found, from_process=0)
    return found[0]


def reward_names(rewards: Rewards) -> list[str]:
    return [getattr(func, "__name__", type(func).__name__) for func in rewards.funcs]


def announcement(
    trainer: CreditGRPOTrainer,
    command: Command,
    folder: RunFolder,
    checkpoint: str | None,
    left_out: int = 0,
    start: str | None = None,
) -> str:
    args, ranks, prompts = trainer.args, trainer.accelerator.num_processes, len(trainer.train_dataset)
    parameters = count_parameters(trainer.model)
    declared = trainer.credit.declaration
    bias = {True: "unbiased in direction", False: "biased in direction", None: "bias unknown"}[declared.unbiased]
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * ranks
    return "\n".join(
        [
            f"credit   {trainer.credit.name} ({bias}; weight depends on: {declared.weight_class or 'unknown'})",
            f"task     {command.choices['task']}: {prompts} prompts"
            + say_left_out(left_out, prompts, "prompts, which fill no batch", trainer.shuffle_dataset),
            f"model    {command.choices['model']}: {parameters / 1e6:.2f} M parameters",
            *([start] if start else []),
            f"batch    {rows} completions a step = {ranks} process(es) x {args.gradient_accumulation_steps} "
            f"micro-batch(es) x {args.per_device_train_batch_size}, {args.num_generations} per prompt",
            f"folder   {folder.path}"
            + (f" (resuming after step {checkpoint.rsplit('-', 1)[1]})" if checkpoint else ""),
        ]
    )


def finish(folder: RunFolder, trainer, command: Command, rewards: Rewards, seconds: float, ending: Ending) -> None:
    """Pictures, the table on the terminal, and summary.json last: it says that the run is whole."""
    rows = read_metrics(folder.metrics)
    summary = summarise(rows, command, trainer, seconds)
    title = f"{command.choices['task']}, credit={trainer.credit.name}, seed {command.config.seed}"
    with ending.part("curves.png"):
        draw_curves(rows, title, folder.curves)
    with ending.part("the table of results"):
        print_results(rows, summary, trainer, reward_names(rewards), command.config.show)
    write_text(folder.summary, json.dumps(summary | ending.note(), indent=2) + "\n")
    print(f"\n{folder.path}: summary.json, metrics.jsonl, curves.png, config.yaml, model/")


def summarise(rows: list[dict], command: Command, trainer, seconds: float) -> dict[str, Any]:
    """The numbers a report needs. `seconds` counts training of this process, without evaluation of the end."""
    train = [row for row in rows if row.get("reward") is not None]
    before, after = before_and_after(rows, "eval_reward", trainer.state.global_step)
    rewards = [row["reward"] for row in train]
    times = [row["step_time"] for row in train if row.get("step_time") is not None]
    return {
        "task": command.choices["task"],
        "credit": trainer.credit.name,
        "choices": command.choices,
        "overrides": list(command.overrides),
        "seed": command.config.seed,
        "steps": trainer.state.global_step,
        "initial_reward": _mean(rewards[:1]),
        "final_reward": _mean(rewards[-LAST_STEPS:]),
        "eval_reward_before": before,
        "eval_reward_after": after,
        "tokens": int(train[-1].get("num_tokens") or 0) if train else 0,
        "seconds": round(seconds, 3),
        "seconds_per_step": _mean(times),
        "world_size": trainer.accelerator.num_processes,
        "completions_per_step": trainer.args.per_device_train_batch_size
        * trainer.args.gradient_accumulation_steps
        * trainer.accelerator.num_processes,
        "parameters": count_parameters(trainer.model),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl", "accelerate", "peft")}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
