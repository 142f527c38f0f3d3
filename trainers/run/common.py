"""What every training run has in common, from a prepared job to its summary: begin, announce, train, and the words for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, ProgressCallback

from trainers.command.before import check_disk
from trainers.command.job import Job
from trainers.model.adapters import is_adapted
from trainers.model.policy import Policy, parameters_in_words, parameters_of
from trainers.model.precision import coarse_weights
from trainers.publish.card import write_card
from trainers.publish.complete import complete
from trainers.run.ending import Ending
from trainers.run.files import write_json
from trainers.run.folder import start_folder
from trainers.run.start import check_start, keep_start
from trainers.run.tell.facts import facts_of, write_start
from trainers.run.tell.idle import NOTHING_LEARNED, learned_nothing
from trainers.run.tell.outputs import without_secret
from trainers.run.tell.trackers import Trackers, name_project
from userio.terminal import log_output

LAST_STEPS = 10  # what a final number is the mean over


@dataclass(frozen=True)
class Begun:
    """A run before its first step.

    Args:
        trainer: made, with our own progress instead of transformers'.
        data: words for what it trains on.
        checkpoint: to resume from; None: step 0.
        start: what is to be said of the model that the run starts from.
        warning: what is to be said of the room on the disk.
        facts: which run this is (trainers/run/tell/facts.py).
        trackers: what tells the trackers of it.
    """

    trainer: Any
    data: str
    checkpoint: str | None
    start: str | None
    warning: str | None
    facts: dict[str, Any]
    trackers: Trackers


def begin(job: Job, policy: Policy, make: Callable[[Any, Policy], tuple[Any, str]]) -> Begun:
    """Makes the folder, keeps in it what the run starts from, and has `make(job, policy)` make the trainer and the words for
    what it trains on. An exception leaves the place as it was.

    Raises:
        ValueError: the model does not fit the folder, the reference, the data or the disk.
    """
    state, overwrite = PartialState(), job.command.config.overwrite
    check_start(policy, job.folder, overwrite, with_reference=job.has_reference)
    with job.folder.as_it_was_if_refused(state.is_main_process):
        checkpoint = start_folder(job.folder, job.command.config, state)
        start = keep_start(policy, job.folder, state, with_reference=job.loads_reference)
        if checkpoint:
            job.args.eval_on_start = False  # the first evaluation is in metrics.jsonl already
        name_project(job.args)
        job.args.run_name = job.args.run_name or job.folder.name
        set_seed(job.args.seed)  # an adapter's first weights are random; trl 1.8 draws them before it sets the seed
        trainer, data = make(job, policy)
        warning = check_disk(job.folder.path, trainer.model)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    facts = facts_of(job, trainer.accelerator.num_processes)
    trackers = Trackers(facts)
    trackers.attach(trainer, job.folder.path)
    if state.is_main_process:
        log_output(job.folder.log)
        write_start(job.folder.started, facts, int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0)
    return Begun(trainer, data, checkpoint, start, warning, facts, trackers)


def announce(
    job: Job, begun: Begun, what: Sequence[str], unit: str, group: str = "", notes: Sequence[str | None] = ()
) -> None:
    """Says what is about to be trained. what: lines on top; unit, group: what a batch consists of; notes: lines at the end."""
    args, ranks, choices = job.args, begun.trainer.accelerator.num_processes, job.command.choices
    micro, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    lines = [
        *what,
        f"task     {choices['task']}: {begun.data}",
        f"model    {choices['model']}: {parameters_in_words(begun.trainer.model)}",
        begun.start,
        f"batch    {rows_per_step(begun.trainer)} {unit} a step = {ranks} process(es) x {accumulated} micro-batch(es) x "
        f"{micro}{group}",
        f"folder   {job.folder.path}"
        + (f" (resuming after step {begun.checkpoint.rsplit('-', 1)[1]})" if begun.checkpoint else ""),
        *notes,
        _coarse(begun.trainer),
    ]
    PartialState().print("\n".join(line for line in lines if line is not None))


def _coarse(trainer: Any) -> str | None:
    """DeepSpeed keeps float32 weights of its own beside those of the model."""
    if is_adapted(trainer.model) or trainer.is_deepspeed_enabled:
        return None
    return coarse_weights({p.dtype for p in trainer.model.parameters() if p.requires_grad}, trainer.args.learning_rate)


def train(job: Job, begun: Begun) -> tuple[Ending, float]:
    """Trains and saves the model. Returns what is to be asked for all that follows, and the seconds of training."""
    ending = Ending(begun.trainer, job.folder.path)
    started = time.perf_counter()
    ending.train(begun.checkpoint)
    seconds = time.perf_counter() - started
    ending.save(job.folder.model)
    return ending, seconds


def identity(job: Job, begun: Begun, **more: Any) -> dict[str, Any]:
    """The head of a summary: which run it is of."""
    command, facts = job.command, begun.facts
    return {
        "task": command.choices["task"],
        "credit": job.credit,
        **more,
        "choices": command.choices,
        "overrides": [without_secret(word) for word in command.overrides],
        "seed": command.config.seed,
        "steps": begun.trainer.state.global_step,
        **{key: facts[key] for key in ("commit", "commit_dirty", "project", "project_dirty", "versions")},
        **parameters_of(begun.trainer.model),
    }


def conclude(
    job: Job,
    begun: Begun,
    ending: Ending,
    summary: dict[str, Any],
    draw: Callable[[], None],
    table: Callable[[], Table],
    show: Callable[[Console], None],
    files: str,
) -> None:
    """Pictures, the table for the terminal and the trackers, who are then told of the end, and summary.json last: it says
    that the run is whole. show: what the terminal has below the table; files: their names."""
    with ending.part("curves.png"):
        draw()
    with ending.part("the table of results"):
        results, console = table(), Console(highlight=False)
        console.print(results)
        show(console)
        columns = [list(column.cells) for column in results.columns]
        begun.trackers.finish(summary, [str(c.header) for c in results.columns], list(zip(*columns, strict=True)))
    with ending.part("the model card"):
        complete(begun.trainer, job.folder.model)
        write_card(job, begun.trainer, begun.facts, summary)
    ending.release()
    write_json(job.folder.summary, summary | ending.note())
    if idle := summary.get("idle"):
        which = "in all" if learned_nothing(summary) else f"in {idle['steps']} of"
        meaning = "nothing could be learned" if learned_nothing(summary) else "nothing could be learned from these"
        print(f"\n{idle['why'][0].upper()}{idle['why'][1:]} {which} {idle['of']} steps: {meaning}.", file=sys.stderr)
        ending.status = NOTHING_LEARNED if learned_nothing(summary) else 0
    print(f"\n{job.folder.path}: {files}")


def before_and_after(rows: list[dict[str, Any]], key: str, last: int) -> tuple[float | None, float | None]:
    """The first evaluation, and the one of the finished model, which has made `last` steps; None for what failed."""
    evals = [row for row in rows if row.get(key) is not None]
    after = [row[key] for row in evals if row["step"] == last]
    return evals[0][key] if evals and evals[0]["step"] < last else None, after[-1] if after else None


def rows_per_step(trainer: Any) -> int:
    """Rows of an optimiser step, on all ranks."""
    args = trainer.args
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * trainer.accelerator.num_processes


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None
