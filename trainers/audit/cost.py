"""What an audit costs, in training steps of the same batch: said before it starts, measured with its first batch, told as it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from accelerate import PartialState

from trainers.audit.candidates import learns
from trainers.audit.sketch import Sketch
from trainers.command.audit.prepare import AuditJob

BACKWARD = 2.0  # passes forward that one backward takes
_LINES = 20  # of progress


def forecast(job: AuditJob, sketch: Sketch | None = None) -> list[str]:
    """Lines. sketch: once the policy is there.

    A training step samples, and goes once forward and once backward; a batch of an audit samples, and goes once forward and at most
    once backward for each strategy and once for length. How much of a step is sampling is not known before, so this is a range.
    """
    plan, args, count = job.plan, job.args, len(job.strategies)
    most = (1 + BACKWARD * (count + 1)) / (1 + BACKWARD)
    shares = 2 * count / (1 + BACKWARD) * plan.share_batches
    warm = plan.warmup if any(learns(strategy) for strategy in job.strategies.values()) else 0
    size = sketch.size if sketch else plan.sketch
    if sketch is not None and sketch.kind == "exact":
        kept = "all numbers"
    else:
        kept = (
            "all numbers"
            if size is None
            else f"at most {size:,} numbers"
            if sketch is None
            else f"sketches of {size:,} numbers"
        )
    room = "" if size is None else f": {(count + 1) * size * 4 / 1e6:.1f} MB a batch"
    given = job.recorded
    drawn, free = ("sampled, ", "") if given is None else ("", " without their sampling")
    return [
        *([] if given is None else given.in_words()),
        f"batches  {plan.batches} of {args.generation_batch_size} completions, {args.num_generations} per prompt"
        + (f", after {warm} that members learn from" if warm else ""),
        f"cost     {plan.batches + warm} to {plan.batches * most + shares + warm:.0f} training steps{free}: a batch is {drawn}"
        f"rewarded and put forward once, in {args.gradient_accumulation_steps} part(s), and backward once for each of at most "
        f"{count + 1} directions",
        f"keeps    {kept} of each gradient{room}",
    ]


def show_audit_plan(jobs: Sequence[AuditJob]) -> None:
    """Prints what the audits would do (main process only)."""
    job, several = jobs[0], len(jobs) > 1
    models = [f"model    {one.model}" for one in jobs]
    lines = [
        f"credit   {', '.join(job.strategies)}",
        f"task     {job.command.choices['task']}: {len(job.task.train)} prompts",
        *job.task.about,
        *models,
        *([f"audits   {len(jobs)}, then all side by side; of each:"] if several else []),
        *forecast(job),
        f"folder   {job.folder.parent if several else job.folder}",
        "dry run  nothing was measured or written",
    ]
    PartialState().print("\n".join(lines))


class AuditProgress:
    """Called after each batch by the main process."""

    def __init__(self, batches: int, started: float):
        self._batches, self._begun, self._first, self._told = batches, time.perf_counter(), None, 0
        self._loading = self._begun - started

    def __call__(self, done: int, facts: dict[str, Any]) -> None:
        if self._first is None:
            self._first = done
            step = step_seconds(facts)
            left = (self._batches - done) * facts["seconds"]["batch"]
            print(
                f"measured a batch took {facts['seconds']['batch']:.2f} s, which is {facts['seconds']['batch'] / step:.1f} training "
                f"steps of about {step:.2f} s; about {_duration(left)} to go",
                flush=True,
            )
            return
        count = done * _LINES // self._batches
        if count > self._told or done == self._batches:
            self._told = count
            each = (time.perf_counter() - self._begun) / max(1, done - self._first + 1)
            reward = "no reward yet" if facts["reward"] is None else f"reward {facts['reward']:.3f}"
            print(
                f"{done:>6}/{self._batches} batches  {reward}  about {_duration((self._batches - done) * each)} to go",
                flush=True,
            )
            sys.stdout.flush()


def step_seconds(facts: dict[str, Any]) -> float:
    """About what a training step of this batch takes: its sampling, one way forward and one back. Without the optimiser's own."""
    seconds = facts["seconds"]
    return seconds["sampling alone"] + seconds["forward"] + seconds["one backward"]


def sampled(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For `Collected.about`: how good the policy is that was audited, and how long it writes, means over the batches."""
    rewards = [one["reward"] for one in facts if one["reward"] is not None]
    return {
        "mean_reward": sum(rewards) / len(rewards) if rewards else None,
        "mean_length": sum(one["length"] for one in facts) / len(facts),
        "flat_groups": sum(one["flat_groups"] for one in facts) / len(facts),
    }


def cost_of(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For `Collected.about`: seconds of the batches by part, and what they come to in training steps."""
    parts: dict[str, float] = {}
    for one in facts:
        for name, value in one["seconds"].items():
            parts[name] = parts.get(name, 0.0) + value
    step = sum(map(step_seconds, facts)) / len(facts)
    return {"seconds": parts, "step_seconds": step, "training_steps": parts["batch"] / step}


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
