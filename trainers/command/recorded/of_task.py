"""Rows of completions beside those of the task that their prompts are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from configs.compose import ConfigError
from tasks.base import Row, Task, prompt_key
from trainers.command.recorded.rows import FROM_TASK

_MARKS = re.compile(r"(\s|<[^<>\s]*>|\[[A-Z]+\])+")  # special tokens that were decoded with a prompt


class OfTask:
    """Which row of the task is a prompt's.

    Args:
        task: whose rows they are; a number in the place of a prompt is that of a held-out row.
    """

    def __init__(self, task: Task):
        self._task = task
        self._known = {prompt_key(row["prompt"]): row for row in (*task.evaluation, *task.train)}
        self._plain = sorted((key for key, row in self._known.items() if isinstance(row["prompt"], str)), key=len)

    def __call__(self, row: Row) -> tuple[Row, Row | None]:
        """(the row with its prompt in the place of a number, the task's row or None).

        Raises:
            ConfigError: a number that the task has not.
        """
        prompt = row.get("prompt")
        held_out = self._task.evaluation or self._task.train
        if isinstance(prompt, int) and not isinstance(prompt, bool):
            if not 0 <= prompt < len(held_out):
                raise ConfigError(
                    f"a row is of prompt {prompt}, and task {self._task.name} has {len(held_out)} held-out ones."
                )
            row = {**row, "prompt": held_out[prompt]["prompt"]}
        own = self._known.get(key) if (key := key_of(row.get("prompt"))) else None
        if own is None and isinstance(row.get("prompt"), str) and (marked := self._behind_marks(row["prompt"])):
            own = self._known[marked]
            row = {**row, "prompt": own["prompt"]}
        return row, own

    def _behind_marks(self, prompt: str) -> str | None:
        """The longest prompt of the task that stands behind special tokens in this one."""
        if not _MARKS.match(prompt):
            return None
        return next((key for key in reversed(self._plain) if key and _is_marked(prompt, key)), None)


def with_columns(row: Row, own: Row | None) -> Row:
    """The row of a completion with the columns of the task's row, or with what a record says of those; its own come first."""
    said = row.get(FROM_TASK) or {}
    return {**(said if own is None else own), **{name: value for name, value in row.items() if name != FROM_TASK}}


def _is_marked(prompt: str, key: str) -> bool:
    return prompt.endswith(key) and _MARKS.fullmatch(prompt[: -len(key)]) is not None


def key_of(prompt: Any) -> str | None:
    """`prompt_key`; None of what is neither a text nor a chat, and of an empty one."""
    if not prompt or not isinstance(prompt, str | list) or not all(isinstance(one, str | Mapping) for one in prompt):
        return None
    try:
        return prompt_key(prompt)
    except (TypeError, KeyError):
        return None
