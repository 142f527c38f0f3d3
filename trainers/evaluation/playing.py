"""Conversations in TRL's tool loop, of which none has a say in another: each row draws from streams of its own, turn after turn.

TRL asks for a turn of all rows, then again and again for those that called a tool. What it hands on for these are token ids, which
may be the same for two rows. So it is looked at what the loop does to its own lists, which are written in place: a row is asked for
its next turn when answers of tools were put behind its last message. The token ids are there to check it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tasks.base import Row, Task, prompt_key
from tasks.environments.guarded import guard_environment
from tasks.environments.notes import notes_of
from tasks.environments.numbers import Numbers
from trainers.evaluation.sampling import drawn_from
from trainers.run.data_columns import other_columns


class RowsInLoop:
    """Which rows of a batch TRL's tool loop asks a turn of. All arguments are the loop's own lists.

    Args:
        prompt_ids, completion_ids: tokens of each row; completions: its messages.
    """

    def __init__(self, prompt_ids: list[list[int]], completion_ids: list[list[int]], completions: list[list[dict]]):
        self._prompt_ids, self._completion_ids, self._completions = prompt_ids, completion_ids, completions
        self._lengths = list(map(len, completions))

    def asked(self, given: Sequence[Sequence[int]]) -> list[int]:
        """given: the token ids that are to be continued.

        Raises:
            RuntimeError: they are not those of the rows whose tools have answered.
        """
        lengths = list(map(len, self._completions))
        rows = [
            row
            for row, talk in enumerate(self._completions)
            if lengths[row] > self._lengths[row] and talk[-1].get("role") == "tool"
        ]
        self._lengths = lengths
        before = [[*self._prompt_ids[row], *self._completion_ids[row]] for row in rows]
        if len(rows) != len(given) or any(
            list(ids[: len(own)]) != own for ids, own in zip(given, before, strict=False)
        ):
            raise RuntimeError(
                "TRL's tool loop asks for other rows than those whose tools have answered, so that their random numbers cannot be "
                "told apart. Evaluate greedily (trainer.temperature=0), or with a trl that was tested: 1.16."
            )
        return rows


class Plays:
    """Mixin of a trainer that evaluates: `streams`, one for each row of the batch, follow the rows through TRL's tool loop. None:
    the likeliest token each time."""

    streams: Sequence[np.random.Generator] | None = None
    _loop: RowsInLoop | None = None

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        streams = self.streams
        if streams is not None and self._loop is not None:
            streams = [streams[row] for row in self._loop.asked(prompt_ids)]
        drawing = nullcontext() if self.use_vllm else drawn_from(self.accelerator.unwrap_model(self.model), streams)
        with drawing:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    def _tool_call_loop(self, prompts, prompt_ids, completion_ids, completions, *args, **kwargs):
        self._loop = RowsInLoop(prompt_ids, completion_ids, completions)
        try:
            return super()._tool_call_loop(prompts, prompt_ids, completion_ids, completions, *args, **kwargs)
        finally:
            self._loop = None


def row_name(row: Row, plays: bool) -> str:
    """What the random numbers of a row are named by: its prompt, and, where an environment makes the rest from them, its columns."""
    name = prompt_key(row["prompt"])
    return f"{name} {other_columns(dict(sorted(row.items())))}" if plays else name


def playing(task: Task, deals: Callable[[], Numbers], seconds: float | None) -> dict[str, Any]:
    """The arguments of the trainer for what a task's policy plays with; nothing where it only writes.

    Args:
        deals: called when a rollout begins, for the numbers that its environment draws.
        seconds: one call of an environment may take, where the task says nothing; None: no limit.
    """
    make = task.environment

    def guarded() -> Any:
        assert make is not None
        environment = guard_environment(make(), seconds, pays_here=True)
        notes_of(environment).deals = deals
        return environment

    given = {"tools": task.tools, "environment_factory": guarded if make is not None else None}
    return {name: value for name, value in given.items() if value}
