"""One run of likelihood training or of Long Horizon Temperature Scaling, from a composed command to a finished
folder."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from omegaconf import DictConfig, OmegaConf
from transformers import PrinterCallback, ProgressCallback
from trl import SFTConfig

from configs.compose import ConfigError, check_keys, make_strategy
from configs.schema import register
from credit.strategy import Strategy
from sampling.draws import check_counts
from tasks.base import Row, Task
from trainers.command.before import check_disk, check_length, check_trackers, say_left_out, texts_left_out
from trainers.command.cli import Command
from trainers.command.prepare import build_args, build_policy, build_task, template_of
from trainers.command.rows import as_table
from trainers.lhts import LHTS, LHTSTrainer
from trainers.model.policy import count_parameters
from trainers.run.ending import Ending
from trainers.run.folder import RunFolder, before_and_after, read_metrics, run_folder, say_finished, write_text
from trainers.run.generations import Probe, probe
from trainers.run.progress import MetricsFile
from trainers.run.show_sft import LossProgress, draw_loss_curves, print_learnt
from trainers.run.start import check_start, keep_start
from trainers.seam.members import untouched
from trainers.sft import CreditSFTTrainer, refuse_inexact_sft, sft_strategy, weigh

logger = logging.getLogger(__name__)
LAST_STEPS = 10
# Demonstrations for evaluation come from another stream than those for training.
_EVALUATION_SEED = 1_000_003


def register_schema() -> None:
    register("sft_schema", SFTConfig)


def run_sft(command: Command) -> None:
    """Likelihood training. Everything that can be wrong is found before a model is loaded or a file written.

    Raises:
        ValueError: with the remedy.
    """
    _run(command, f"sft_{command.choices['weight']}", None)


def run_lhts(command: Command) -> None:
    """As `run_sft`, with the loss of trainers/lhts.py."""
    config = command.config
    tau = tuple(config.tau) if OmegaConf.is_list(config.tau) else config.tau
    settings = {key: config[key] for key in ("horizon", "clamp", "kl", "self_samples", "baseline")}
    longest = 64 if config.max_new_tokens is None else config.max_new_tokens
    # Found wrong, tau=0 and the like end the run here.
    lhts = LHTS(tau=tau, max_new_tokens=longest, **settings)
    taus = "-".join(f"{t:g}" for t in lhts.taus)
    _run(command, f"lhts_tau{taus}_H{config.horizon or 'all'}", lhts)


def _run(command: Command, label: str, lhts: LHTS | None) -> None:
    config = command.config
    if config.examples is not None:
        check_counts(examples=config.examples)
    check_counts(0, probe=config.probe, eval_examples=config.get("eval_examples") or 0)
    folder = _folder(command, label)
    folder.check(config)
    if folder.nothing_left(config):
        return say_finished(folder)
    strategy = build_weight(config.weight, command.choices["weight"])
    task = build_task(config)
    args = build_args(config, SFTConfig, output_dir=str(folder.checkpoints), seed=config.seed, disable_tqdm=True)
    refuse_inexact_sft(args, strategy, {})
    check_length(args)
    check_trackers(args)
    train, evaluation = texts_of(task, config)
    if not args.packing:
        texts_left_out(args, len(train), command.choices["task"])
    if not evaluation or lhts is not None:
        args.eval_on_start = False
    if lhts is not None and config.max_new_tokens is None and task.max_completion_length:
        lhts = LHTS(**{**lhts.__dict__, "max_new_tokens": task.max_completion_length})
    state = PartialState()
    policy = build_policy(config, task)
    if config.build_only:
        state.print("The model is built and cached; build_only=true stops here.")
        return
    check_start(policy, folder, config.overwrite, with_reference=lhts is not None)
    with folder.as_it_was_if_refused(state.is_main_process):
        checkpoint = _start(folder, config, state)
        start = keep_start(policy, folder, state)
        if checkpoint:
            args.eval_on_start = False
        options: dict[str, Any] = {"lhts": lhts} if lhts is not None else {}
        set_seed(args.seed)  # as in trainers/run/grpo.py
        trainer = (CreditSFTTrainer if lhts is None else LHTSTrainer)(
            model=policy.model,
            args=args,
            train_dataset=as_table(train),
            eval_dataset=as_table(evaluation) if evaluation else None,
            processing_class=policy.tokenizer,
            peft_config=policy.peft_config,
            callbacks=[MetricsFile(folder.metrics), LossProgress()],
            weight=strategy,
            **options,
        )
        kept = _rows_that_learn(trainer)
        left_out = texts_left_out(args, kept, command.choices["task"])
        warning = check_disk(folder.path, trainer.model)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    state.print(_announcement(trainer, command, folder, checkpoint, (len(train), kept, left_out), start))
    if warning:
        state.print(warning)
    if not args.packing and (cut := _cut_texts(trainer)):
        state.print(
            f"{cut} of {len(trainer.train_dataset)} texts are cut at trainer.max_length={args.max_length} tokens: they end "
            "without an end-of-text token, and weigh as texts of that length."
        )
    before = _probe(trainer, task, evaluation or train, config) if lhts is not None else None
    ending = Ending(trainer, folder.path)
    started = time.perf_counter()
    ending.train(checkpoint)
    seconds = time.perf_counter() - started
    ending.save(folder.model)
    ending.evaluate(is_wanted=lhts is None)
    after = None
    with ending.part("the probe of what the model writes"):
        after = _probe(trainer, task, evaluation or train, config)
    if state.is_main_process:
        rows = read_metrics(folder.metrics)
        summary = _summary(rows, command, label, trainer, seconds, train, policy.tokenizer, before, after)
        with ending.part("curves.png"):
            draw_loss_curves(rows, f"{command.choices['task']}, {label}, seed {config.seed}", folder.curves)
        with ending.part("the table of results"):
            print_learnt(rows, summary, after, config.show)
        if after:
            write_text(folder.path / "written.jsonl", "".join(json.dumps(row) + "\n" for row in after.rows()))
        write_text(folder.summary, json.dumps(summary | ending.note(), indent=2) + "\n")
        print(f"\n{folder.path}: summary.json, written.jsonl, metrics.jsonl, curves.png, config.yaml, model/")
    ending.close()


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


def texts_of(task: Task, config: DictConfig) -> tuple[list[Row], list[Row]]:
    """Training and held-out texts as TRL's prompt-completion rows. No pair of the one stands in the other.

    Raises:
        ConfigError: the task has no texts to learn from.
    """
    if task.demonstrations is None:
        raise ConfigError(
            f"task {task.name} has no texts to learn from. Choose task=corpus (task.path=texts.txt), task=chain, or a "
            "table with task.completion_column=..."
        )
    template = template_of(config)
    evaluation = [_pair(row, template) for row in task.evaluation if "completion" in row]
    wanted = config.get("eval_examples") or 0
    if not evaluation and wanted:
        evaluation = [_pair(row, template) for row in task.demonstrations(wanted, config.seed + _EVALUATION_SEED)]
    held_out = {json.dumps(row) for row in evaluation}
    train = [_pair(row, template) for row in task.demonstrations(config.examples or len(task.train), config.seed)]
    kept = [row for row in train if json.dumps(row) not in held_out]
    if len(kept) < len(train) / 2:
        # A small table: hold out a share of what there is.
        distinct = list({json.dumps(row): row for row in train}.values())
        held = distinct[: max(1, min(wanted, len(distinct) // 10))]
        evaluation, kept = held, [row for row in train if row not in held]
    if not kept:
        raise ConfigError(f"task {task.name}: no texts are left to train on once {len(evaluation)} are held out.")
    return kept, evaluation


def _pair(row: Row, template: dict[str, Any]) -> Row:
    """The row as TRL wants it: a chat prompt is answered by a message, and brings the arguments of its template."""
    if isinstance(row["prompt"], str):
        return {"prompt": row["prompt"], "completion": row["completion"]}
    answer = [{"role": "assistant", "content": row["completion"]}]
    given = {"chat_template_kwargs": template} if template else {}
    return {"prompt": row["prompt"], "completion": answer, **given}


def _folder(command: Command, label: str) -> RunFolder:
    named = {"weight", "tau", "horizon"}
    rest = tuple(o for o in command.overrides if o.lstrip("+~").split("=")[0] not in named)
    if label.startswith("lhts") and command.choices["weight"] != "token_mean":
        label = f"{label},weight={command.choices['weight']}"
    return run_folder(command.config, {**command.choices, "credit": label}, rest)


def _start(folder: RunFolder, config: DictConfig, state: PartialState) -> str | None:
    """The main process makes the folder; every rank learns which checkpoint to resume from."""
    found = [None]
    if state.is_main_process:
        checkpoint = folder.start(config, config.overwrite)
        found = [str(checkpoint) if checkpoint else None]
    if state.num_processes > 1:
        broadcast_object_list(found, from_process=0)
    return found[0]


def _probe(trainer, task: Task, rows: list[Row], config: DictConfig) -> Probe | None:
    """What the model writes now (main process only). For LHTS scored by the frozen model, at the lowest tau."""
    if not config.probe or not trainer.accelerator.is_main_process:
        return None
    model = trainer.accelerator.unwrap_model(trainer.model)
    longest = config.get("max_new_tokens") or task.max_completion_length or 128
    prompts = [row["prompt"] for row in rows][: config.probe]
    given = (model, trainer.processing_class, prompts, config.probe, longest, config.seed)
    if not isinstance(trainer, LHTSTrainer):
        return probe(*given, template=template_of(config))
    trainer.set_tau(trainer.lhts.taus[0])
    return probe(*given, scoring=trainer.scoring, template=template_of(config))


def _rows_that_learn(trainer) -> int:
    """Training rows with a token to learn from; trl before 1.9 keeps those that `max_length` has left none."""
    data = trainer.train_dataset
    if "labels" not in (data.column_names or []):
        return len(data)
    return sum(any(label != -100 for label in labels) for labels in data["labels"])


def _cut_texts(trainer) -> int:
    """Training rows as long as TRL lets them be, whose last token does not end a text."""
    longest, end = trainer.args.max_length, trainer.processing_class.eos_token_id
    rows = trainer.train_dataset["input_ids"] if "input_ids" in (trainer.train_dataset.column_names or []) else []
    return sum(len(ids) == longest and ids[-1] != end for ids in rows)


def _announcement(
    trainer,
    command: Command,
    folder: RunFolder,
    checkpoint: str | None,
    counts: tuple[int, int, int],
    start: str | None,
) -> str:
    """counts: texts, the rows that TRL has made of them, and those of them that an epoch leaves out."""
    args, ranks = trainer.args, trainer.accelerator.num_processes
    texts, kept, left_out = counts
    made = "" if kept == texts else f", packed into {kept} rows" if args.packing else f", {kept} of which fit"
    parameters = count_parameters(trainer.model)
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * ranks
    lines = [
        f"weight   {trainer.weight.name}",
        f"task     {command.choices['task']}: {texts} texts{made}"
        + say_left_out(left_out, kept, "rows, which fill no batch", is_shuffled=True),
        f"model    {command.choices['model']}: {parameters / 1e6:.2f} M parameters",
        *([start] if start else []),
        f"batch    {rows} texts a step = {ranks} process(es) x {args.gradient_accumulation_steps} micro-batch(es) x "
        f"{args.per_device_train_batch_size}",
        f"folder   {folder.path}" + (f" (resuming after step {checkpoint.rsplit('-', 1)[1]})" if checkpoint else ""),
    ]
    if hasattr(trainer, "lhts"):
        settings = trainer.lhts
        horizon = settings.horizon or "all"
        lines.insert(0, f"target   sequence temperature tau={settings.tau}, horizon {horizon}, KL {settings.kl}")
    return "\n".join(lines)


def _summary(rows, command: Command, label, trainer, seconds, train, tokenizer, before, after) -> dict[str, Any]:
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    eval_before, eval_after = before_and_after(rows, "eval_loss", trainer.state.global_step)
    sample = [row["completion"] for row in train[:2000] if isinstance(row["completion"], str)]
    lengths = [len(ids) + 1 for ids in tokenizer(sample)["input_ids"]] if sample else []
    return {
        "task": command.choices["task"],
        "credit": label,
        "weight": trainer.weight.name,
        "choices": command.choices,
        "overrides": list(command.overrides),
        "seed": command.config.seed,
        "steps": trainer.state.global_step,
        "initial_loss": losses[0] if losses else None,
        "final_loss": _mean(losses[-LAST_STEPS:]),
        "eval_loss_before": eval_before,
        "eval_loss_after": eval_after,
        "data_mean_length": _mean(lengths),
        "written_before": before.numbers() if before else None,
        "written": after.numbers() if after else None,
        "seconds": round(seconds, 3),
        "seconds_per_step": seconds / max(1, trainer.state.global_step),
        "world_size": trainer.accelerator.num_processes,
        "parameters": count_parameters(trainer.model),
    }


def _mean(values: list) -> float | None:
    return sum(values) / len(values) if values else None
