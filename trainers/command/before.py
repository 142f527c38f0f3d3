"""What would end a run late, or train nothing, is found before a model is loaded."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from configs.compose import ConfigError
from credit.checks import member_name
from credit.strategy import Strategy


def check_length(args: Any) -> None:
    """Whether `max_steps` and `num_train_epochs` leave anything to train.

    Raises:
        ConfigError: with the remedy.
    """
    if args.max_steps == 0:
        raise ConfigError(
            "trainer.max_steps=0 trains nothing. Give the steps to train, or trainer.max_steps=-1 for "
            f"trainer.num_train_epochs={args.num_train_epochs:g} passes over the data."
        )
    if args.max_steps < 0 and not 0 < args.num_train_epochs < math.inf:
        raise ConfigError(
            f"trainer.max_steps={args.max_steps} leaves the length to trainer.num_train_epochs={args.num_train_epochs:g}, "
            "which trains nothing. Give a positive number for one of them."
        )


def prompts_left_out(args: Any, prompts: int, task: str) -> int:
    """Prompts of the table that an epoch of online training does not reach: TRL drops those that fill no generation
    batch. args: a `trl.GRPOConfig`.

    Raises:
        ConfigError: it reaches none.
    """
    wanted = args.generation_batch_size // args.num_generations
    if prompts < wanted:
        raise ConfigError(
            f"task {task} has {prompts} prompt(s), and a generation batch takes {wanted}: nothing would be trained. "
            f"({args.generation_batch_size} completions = {args.world_size} process(es) x "
            f"trainer.per_device_train_batch_size={args.per_device_train_batch_size} x "
            f"{args.steps_per_generation} micro-step(s) of a generation; trainer.num_generations={args.num_generations} "
            f"for each prompt.) Give at least {wanted} prompts, or a batch of at most {prompts * args.num_generations} "
            "completions."
        )
    return prompts % wanted


def texts_left_out(args: Any, texts: int, task: str) -> int:
    """As `prompts_left_out`, for likelihood training: only `dataloader_drop_last` leaves texts out. texts: rows that
    TRL has made of them; packing puts several into one.

    Raises:
        ConfigError: it reaches none.
    """
    batch = args.per_device_train_batch_size * args.world_size
    if texts < 1:
        raise ConfigError(
            f"task {task}: no text is left to learn from within trainer.max_length={args.max_length} tokens, prompts "
            "included. Raise it, or give shorter prompts."
        )
    if not args.dataloader_drop_last:
        return 0
    if texts < batch:
        raise ConfigError(
            f"task {task} gives {texts} row(s), and trainer.dataloader_drop_last=true drops what does not fill a batch of "
            f"{batch} ({args.world_size} process(es) x {args.per_device_train_batch_size}): nothing would be trained. "
            "Set it to false, lower trainer.per_device_train_batch_size, or give more texts."
        )
    return texts % batch


def say_left_out(left_out: int, of: int, what: str, is_shuffled: bool) -> str:
    """`; each epoch leaves out 3 of 35, others each time`; nothing where it leaves out none."""
    which = "others each time" if is_shuffled else "always the last ones, as the data are not shuffled"
    return f"; each epoch leaves out {left_out} of {of} {what}, {which}" if left_out else ""


def check_evaluation(args: Any) -> None:
    """Whether an evaluation batch holds whole groups. TRL asks only where `eval_strategy` is set; the evaluations before
    and after training need it as much. args: a `trl.GRPOConfig`.

    Raises:
        ConfigError: with the remedy.
    """
    group = args.num_generations_eval or args.num_generations
    rows = args.per_device_eval_batch_size * args.world_size
    if rows % group:
        raise ConfigError(
            f"an evaluation batch of {rows} completions ({args.world_size} process(es) x "
            f"trainer.per_device_eval_batch_size={args.per_device_eval_batch_size}) does not hold whole groups of "
            f"{group}. Set trainer.per_device_eval_batch_size to a multiple of "
            f"{group // math.gcd(group, args.world_size)}, or trainer.num_generations_eval to a divisor of {rows}."
        )


def check_copies(strategy: Strategy, sharding: str) -> None:
    """Whether copies of the policy that a strategy keeps can be made. sharding: as `trainers.plan.machines.Machines.sharding`.

    Raises:
        ConfigError: the policy is sharded, so that no process has it whole; with the remedy.
    """
    keeps = [provider for provider, _ in strategy.makers() if getattr(provider, "copies", 0)]
    if keeps and sharding:
        raise ConfigError(
            f"{member_name(keeps[0])} keeps a copy of the policy, and under {sharding} no process has it whole. Launch with "
            "configs/accelerate/multi_gpu.yaml, or do without the copy: credit/teacher=self or model in the place of ema, credit=prime "
            "without credit/signals=reward_model."
        )


def check_disk(path: Path, model: Any) -> str | None:
    """A warning where the disk may not hold the checkpoints to come. Call it once the model is there.

    Raises:
        ConfigError: not even the finished model fits.
    """
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    free = shutil.disk_usage(nearest).free
    saved = trained if hasattr(model, "peft_config") else size
    if free < saved:
        raise ConfigError(
            f"{nearest} has {free / 1e9:.2f} GB left, and the model takes {saved / 1e9:.2f} GB: it could not be saved. "
            "Make room, or name another run_dir=..."
        )
    needed = saved + 2 * trained  # with AdamW's two moments
    if free < 2 * needed:
        return f"disk     {free / 1e9:.2f} GB left; a checkpoint takes about {needed / 1e9:.2f} GB"
    return None
