"""What every training run has in common, from a prepared job to its summary: begin, announce, train, and the words for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PrinterCallback, ProgressCallback

from trainers.command.before import check_disk
from trainers.command.job import Job
from trainers.model.policy import Policy, count_parameters
from trainers.run.ending import Ending
from trainers.run.files import write_json
from trainers.run.folder import start_folder
from trainers.run.start import check_start, keep_start

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
    """

    trainer: Any
    data: str
    checkpoint: str | None
    start: str | None
    warning: str | None


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
        set_seed(job.args.seed)  # an adapter's first weights are random; trl 1.8 draws them before it sets the seed
        trainer, data = make(job, policy)
        warning = check_disk(job.folder.path, trainer.model)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return Begun(trainer, data, checkpoint, start, warning)


def announce(
    job: Job, begun: Begun, what: Sequence[str], unit: str, group: str = "", notes: Sequence[str | None] = ()
) -> None:
    """Says what is about to be trained. what: lines on top; unit, group: what a batch consists of; notes: lines at the end."""
    args, ranks, choices = job.args, begun.trainer.accelerator.num_processes, job.command.choices
    micro, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    lines = [
        *what,
        f"task     {choices['task']}: {begun.data}",
        f"model    {choices['model']}: {count_parameters(begun.trainer.model) / 1e6:.2f} M parameters",
        begun.start,
        f"batch    {rows_per_step(begun.trainer)} {unit} a step = {ranks} process(es) x {accumulated} micro-batch(es) x "
        f"{micro}{group}",
        f"folder   {job.folder.path}"
        + (f" (resuming after step {begun.checkpoint.rsplit('-', 1)[1]})" if begun.checkpoint else ""),
        *notes,
    ]
    PartialState().print("\n".join(line for line in lines if line is not None))


def train(job: Job, begun: Begun) -> tuple[Ending, float]:
    """Trains and saves the model. Returns what is to be asked for all that follows, and the seconds of training."""
    ending = Ending(begun.trainer, job.folder.path)
    started = time.perf_counter()
    ending.train(begun.checkpoint)
    seconds = time.perf_counter() - started
    ending.save(job.folder.model)
    return ending, seconds


def identity(job: Job, trainer: Any, **more: Any) -> dict[str, Any]:
    """The head of a summary: which run it is of."""
    command = job.command
    return {
        "task": command.choices["task"],
        "credit": job.credit,
        **more,
        "choices": command.choices,
        "overrides": list(command.overrides),
        "seed": command.config.seed,
        "steps": trainer.state.global_step,
    }


def conclude(
    job: Job, ending: Ending, summary: dict[str, Any], draw: Callable[[], None], show: Callable[[], None], files: str
) -> None:
    """Pictures, the table on the terminal, and summary.json last: it says that the run is whole. files: their names."""
    with ending.part("curves.png"):
        draw()
    with ending.part("the table of results"):
        show()
    write_json(job.folder.summary, summary | ending.note())
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


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "trl", "accelerate", "peft")}


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None
