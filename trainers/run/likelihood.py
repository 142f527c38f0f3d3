"""One run of likelihood training or of Long Horizon Temperature Scaling: prepare, train, finish."""

from __future__ import annotations

from typing import Any

from accelerate import PartialState
from trl import SFTConfig

from configs.command_line.schema import register
from configs.compose import ConfigError
from trainers.command.before import say_left_out, texts_left_out
from trainers.command.build import load_policy, template_of
from trainers.command.cli import Command
from trainers.command.job import LikelihoodJob
from trainers.command.prepare import prepare_lhts, prepare_sft
from trainers.command.rows import as_table
from trainers.model.lengths import positions_of
from trainers.model.policy import Policy
from trainers.model.turns import is_marked, masked_rows
from trainers.plan.dry_run import show_plan
from trainers.publish.push import push
from trainers.run.common import (
    LAST_STEPS,
    Begun,
    announce,
    before_and_after,
    begin,
    conclude,
    identity,
    mean,
    train,
)
from trainers.run.curves import draw_loss_curves
from trainers.run.ending import Ending
from trainers.run.files import read_metrics, write_rows
from trainers.run.generations import Probe, probe
from trainers.run.progress import LossProgress, MetricsFile
from trainers.run.results import learnt_table, print_written
from trainers.run.tell.idle import IdleSteps, idle_summary


def register_schema() -> None:
    register("sft_schema", SFTConfig)


def run_sft(command: Command) -> int | None:
    """Likelihood training. Everything that can be wrong is found before a model is loaded or a file written. Returns the
    exit status where that is not 0 (trainers/run/tell/idle.py).

    Raises:
        ValueError: with the remedy.
    """
    return _run(prepare_sft(command))


def run_lhts(command: Command) -> int | None:
    """As `run_sft`, with the loss of trainers/lhts.py."""
    return _run(prepare_lhts(command))


def _run(job: LikelihoodJob | None) -> int | None:
    if job is not None and job.command.dry_run:
        return show_plan(job)
    if job is None or (policy := load_policy(job.command.config, job.task)) is None:
        return None
    begun = begin(job, policy, _trainer)
    what = [*job.target, f"weight   {job.strategy.name}"]
    announce(job, begun, what, "texts", notes=[begun.warning, _cut_texts(begun.trainer)])
    before = None if job.has_comparable_loss else _probe(job, begun.trainer)
    ending, seconds = train(job, begun)
    ending.evaluate(is_wanted=job.has_comparable_loss)
    after = None
    with ending.part("the probe of what the model writes"):
        after = _probe(job, begun.trainer)
    if PartialState().is_main_process:
        _finish(job, begun, seconds, ending, before, after)
    ending.close()
    if PartialState().is_main_process:
        push(job.command.config, job.folder)
    return ending.status


def _trainer(job: LikelihoodJob, policy: Policy) -> tuple[Any, str]:
    train, evaluation = job.train, job.evaluation
    if job.args.assistant_only_loss and not is_marked(policy.tokenizer):
        train, evaluation = (masked_rows(rows, policy.tokenizer) for rows in (train, evaluation))
        job.args.assistant_only_loss = False  # the rows say it
    metrics = MetricsFile(job.folder.metrics)
    trainer = job.trainer(
        model=policy.model,
        args=job.args,
        train_dataset=as_table(train),
        eval_dataset=as_table(evaluation) if evaluation else None,
        processing_class=policy.tokenizer,
        peft_config=policy.peft_config,
        callbacks=[metrics, LossProgress(), IdleSteps("loss", job.folder.metrics)],
        weight=job.strategy,
        **job.options,
    )
    _check_texts_fit(trainer)
    metrics.put_first(trainer)
    texts, kept = len(job.train), _rows_that_learn(trainer)
    left_out = texts_left_out(job.args, kept, job.command.choices["task"])
    made = "" if kept == texts else f", packed into {kept} rows" if job.args.packing else f", {kept} of which fit"
    return trainer, f"{texts} texts{made}" + say_left_out(left_out, kept, "rows, which fill no batch", is_shuffled=True)


def _check_texts_fit(trainer: Any) -> None:
    """Raises ConfigError where a text is longer than the model has positions, which trainer.max_length usually prevents."""
    positions = positions_of(trainer.accelerator.unwrap_model(trainer.model).config)
    rows = trainer.train_dataset["input_ids"] if "input_ids" in (trainer.train_dataset.column_names or []) else []
    long = [ids for ids in rows if positions is not None and len(ids) > positions]
    if long and not trainer.args.packing:
        begins = trainer.processing_class.decode(long[0][:24])
        raise ConfigError(
            f"{len(long)} of {len(rows)} texts are longer than the model's {positions:,} positions, e.g. one of {len(long[0]):,} "
            f"tokens that begins {begins!r:.80}. Set trainer.max_length={positions} to cut them, or take another model."
        )


def _rows_that_learn(trainer: Any) -> int:
    """Training rows with a token to learn from; trl before 1.9 keeps those that `max_length` has left none."""
    data = trainer.train_dataset
    if "labels" not in (data.column_names or []):
        return len(data)
    return sum(any(label != -100 for label in labels) for labels in data["labels"])


def _cut_texts(trainer: Any) -> str | None:
    """How many training rows are as long as TRL lets them be and have a last token that does not end a text."""
    if trainer.args.packing:
        return None
    longest, end = trainer.args.max_length, trainer.processing_class.eos_token_id
    rows = trainer.train_dataset["input_ids"] if "input_ids" in (trainer.train_dataset.column_names or []) else []
    cut = sum(len(ids) == longest and ids[-1] != end for ids in rows)
    if not cut:
        return None
    return (
        f"{cut} of {len(trainer.train_dataset)} texts are cut at trainer.max_length={longest} tokens: they end "
        "without an end-of-text token, and weigh as texts of that length."
    )


def _probe(job: LikelihoodJob, trainer: Any) -> Probe | None:
    """What the model writes now (main process only)."""
    config = job.command.config
    if not config.probe or not trainer.accelerator.is_main_process:
        return None
    model = trainer.accelerator.unwrap_model(trainer.model)
    longest = config.get("max_new_tokens") or job.task.max_completion_length or 128
    rows = (job.evaluation or job.train)[: config.probe]
    prompts = [row["prompt"] if "prompt" in row else row["messages"][:-1] for row in rows]
    scoring = job.scoring(trainer) if job.scoring else None
    given = (model, trainer.processing_class, prompts, config.probe, longest, config.seed)
    return probe(*given, scoring=scoring, template=template_of(config))


def _finish(
    job: LikelihoodJob, begun: Begun, seconds: float, ending: Ending, before: Probe | None, after: Probe | None
) -> None:
    rows, command = read_metrics(job.folder.metrics), job.command
    summary = _summary(rows, job, begun, seconds, before, after)
    title = f"{command.choices['task']}, {job.credit}, seed {command.config.seed}"
    if after:
        write_rows(job.folder.written, after.rows())
    conclude(
        job,
        begun,
        ending,
        summary,
        draw=lambda: draw_loss_curves(rows, title, job.folder.curves),
        table=lambda: learnt_table(summary, rows),
        show=lambda console: print_written(console, after, command.config.show),
        files="summary.json, written.jsonl, metrics.jsonl, curves.png, config.yaml, model/",
    )


def _summary(
    rows: list[dict], job: LikelihoodJob, begun: Begun, seconds: float, before: Probe | None, after: Probe | None
) -> dict[str, Any]:
    trainer = begun.trainer
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    eval_before, eval_after = before_and_after(rows, "eval_loss", trainer.state.global_step)
    sample = [row["completion"] for row in job.train[:2000] if isinstance(row.get("completion"), str)]
    lengths = [len(ids) + 1 for ids in trainer.processing_class(sample)["input_ids"]] if sample else []
    return {
        **identity(job, begun, weight=job.strategy.name),
        "initial_loss": losses[0] if losses else None,
        "final_loss": mean(losses[-LAST_STEPS:]),
        "eval_loss_before": eval_before,
        "eval_loss_after": eval_after,
        "data_mean_length": mean(lengths),
        "written_before": before.numbers() if before else None,
        "written": after.numbers() if after else None,
        "seconds": round(seconds, 3),
        "seconds_per_step": seconds / max(1, trainer.state.global_step),
        "world_size": trainer.accelerator.num_processes,
        **idle_summary(rows, "loss"),
    }
