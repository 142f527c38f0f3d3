"""`--dry-run` of a training command: what it would do, in a page, without a model's weights.

A line is added by a function in `SECTIONS`: (plan) -> lines. It gets what a run is prepared from (`plan.job`), so what a
run refuses without a model is refused here too, before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import PartialState

from trainers.command.job import GRPOJob, Job, LikelihoodJob
from trainers.plan.forecast import Forecast, forecast_of
from trainers.plan.length import Length, length_of_grpo, length_of_texts
from trainers.plan.machines import Machines, planned_machines
from trainers.plan.memory import Memory
from trainers.refill.refusals import note_of_refill

GB = 1e9


@dataclass(frozen=True)
class Plan:
    """What is known of a run before its model is there."""

    job: Job
    machines: Machines
    length: Length
    forecast: Forecast


def show_plan(job: Job) -> None:
    """Prints what the run would do (main process only)."""
    machines = planned_machines(job.command.config)
    forecast = forecast_of(job, machines)
    plan = Plan(job, machines, _length(job, forecast), forecast)
    lines = [line for section in SECTIONS for line in section(plan)]
    PartialState().print("\n".join([*lines, "dry run  nothing was trained or written"]))


def _length(job: Job, forecast: Forecast) -> Length:
    if isinstance(job, GRPOJob):
        return length_of_grpo(job.args, len(job.task.train) if job.has_rows else None)
    assert isinstance(job, LikelihoodJob)
    return length_of_texts(job.args, len(job.train), forecast.shape.positions if forecast.shape else None)


def _credit(plan: Plan) -> list[str]:
    job = plan.job
    if isinstance(job, LikelihoodJob):
        return [*job.target, f"weight   {job.strategy.name}"]
    return [f"credit   {job.credit}"]


def _data(plan: Plan) -> list[str]:
    job = plan.job
    said = job.data if isinstance(job, GRPOJob) else f"{len(job.train)} texts" if isinstance(job, LikelihoodJob) else ""
    return [f"task     {job.command.choices['task']}: {said}"]


def _columns(plan: Plan) -> list[str]:
    """What was made of the columns of a table, on its first row."""
    return list(plan.job.task.about)


def _batch(plan: Plan) -> list[str]:
    args, length, ranks = plan.job.args, plan.length, plan.machines.ranks
    unit, group = "texts", ""
    if isinstance(plan.job, GRPOJob):
        unit, group = "completions", f", {args.num_generations} per prompt"
    return [
        f"batch    {length.rows} {unit} a step = {ranks} process(es) x {args.gradient_accumulation_steps} micro-batch(es) "
        f"x {args.per_device_train_batch_size}{group}"
    ]


def _steps(plan: Plan) -> list[str]:
    length = plan.length
    steps = "steps not known without the data" if length.steps is None else f"{length.steps} steps"
    epochs = "" if length.epochs is None else f" = {length.epochs:.3g} epoch(s)"
    rate = plan.job.args.learning_rate
    return [f"steps    {steps}{epochs}, learning rate {rate:g}"]


def _tokens(plan: Plan) -> list[str]:
    length = plan.length
    what = "generated" if isinstance(plan.job, GRPOJob) else "read"
    if not length.tokens_per_row:
        return ["tokens   of each text all, trainer.max_length=null cuts none"]
    whole = "" if length.tokens is None else f", {length.tokens:,} in all"
    step = length.rows * length.tokens_per_row
    refill = note_of_refill(plan.job.command.config.sampling.refill) if isinstance(plan.job, GRPOJob) else None
    return [
        f"tokens   at most {length.tokens_per_row} {what} a row: {step:,} a step{whole}",
        *([refill] if refill else []),
    ]


def _model(plan: Plan) -> list[str]:
    one = plan.forecast
    if one.shape is None:
        return [f"model    {one.name}", *(f"         {note}" for note in one.notes)]
    shape = one.shape
    trained = "all trained" if shape.trained == shape.parameters else f"{shape.trained / 1e6:.2f} M trained"
    rest = f" on weights of {shape.hidden_bytes} bytes" if shape.is_adapted else ""
    return [f"model    {one.name}: {shape.parameters / 1e6:.2f} M parameters, {trained}, in {one.dtype}{rest}"]


def _memory(plan: Plan) -> list[str]:
    one = plan.forecast
    if one.memory is None:
        return []
    memory = one.memory
    lines = [f"memory   about {memory.peak / GB:.1f} GB a GPU at most: {in_words(memory)}"]
    if memory.vllm:
        lines.append(
            f"         vLLM takes {memory.vllm:.0%} of the card beside it: cards of {memory.smallest_card / 0.95 / GB:.0f} GB or more"
        )
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0).total_memory
        fits = "fits" if memory.fits(card) else "does not fit: see docs/running/recipes.md"
        lines.append(f"         this card has {card / GB:.1f} GB: it {fits}")
    return [*lines, *(note if note.startswith("warning") else f"         {note}" for note in one.notes if note)]


def in_words(memory: Memory) -> str:
    """Its parts in GB, the largest first, those of the moment that decides last; what is below 0.05 GB is left out."""
    moments = {"in training": memory.training, "in generation": memory.generating}
    moment, parts = max(moments.items(), key=lambda one: sum(one[1].values()))
    return f"{_listed(memory.stays)}; {moment} {_listed(parts)}"


def _listed(parts: dict[str, float]) -> str:
    shown = [
        f"{name} {size / GB:.1f}" for name, size in sorted(parts.items(), key=lambda one: -one[1]) if size >= 0.05 * GB
    ]
    return " + ".join(shown) or "next to nothing"


SECTIONS: tuple[Callable[[Plan], list[str]], ...] = (_credit, _data, _columns, _batch, _steps, _tokens, _model, _memory)
"""The page, from top to bottom."""
