"""Columns of a user's table -> the rows of a task: "prompt", "answer", "completion" and whatever else there is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rewards.text import completion_text
from tasks.base import Row

# What TRL itself passes to rewards; a column of that name would collide.
RESERVED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")


def to_rows(
    raw: list[tuple[str, Mapping]],
    source: str,
    *,
    prompt: Callable[[Any, str], Any],
    columns: Mapping[str, str | None],
    answer_marker: str | None = None,
) -> list[Row]:
    """Rows with the task's own column names; every row has every column (None where it had none).

    Args:
        raw: (place, row) pairs; the place ("data.jsonl, line 3") is for messages.
        prompt: turns a cell into a prompt, see `prompt_of`.
        columns: our name -> the table's name, or None where it is not used.

    Raises:
        ValueError: a column that no row has, an empty prompt or completion, a reserved column name.
    """
    names = list(dict.fromkeys(key for _, row in raw for key in row))
    for ours, theirs in columns.items():
        if theirs is not None and theirs not in names:
            fix = " Without an answer, set task.answer_column=null." if ours == "answer" else ""
            raise ValueError(
                f"{source} has no column {theirs!r} (task.{ours}_column). It has: {', '.join(names)}."
                f"{nearest(theirs, names)}{fix}"
            )
    taken = {theirs for theirs in columns.values() if theirs is not None}
    others = [name for name in names if name not in taken]
    if clash := set(others) & {*RESERVED, *columns}:
        raise ValueError(f"{source}: rename the column {sorted(clash)[0]!r}, its name has a meaning here.")
    rows = []
    for place, cells in raw:
        row: Row = {"prompt": prompt(cells.get(columns["prompt"]), place)}
        if columns.get("answer"):
            row["answer"] = _answer(cells.get(columns["answer"]), answer_marker)
        if columns.get("completion"):
            row["completion"] = _completion(cells.get(columns["completion"]), place)
        rows.append(row | {name: cells.get(name) for name in others})
    return rows


def prompt_of(chat: bool, system_prompt: str | None) -> Callable[[Any, str], Any]:
    """A function (cell, place) -> prompt. Message lists stay chat prompts; strings become one if `chat`."""

    def prompt(cell: Any, place: str) -> Any:
        if isinstance(cell, str) and cell.strip():
            if not chat:
                return cell
            cell = [{"role": "user", "content": cell}]
        if not isinstance(cell, list) or not cell:
            raise ValueError(f"{place}: a prompt must be a text or a list of chat messages, got {cell!r:.100}.")
        messages = []
        for message in cell:
            if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
                raise ValueError(f'{place}: a chat message needs "role" and "content", got {message!r:.100}.')
            messages.append({"role": message["role"], "content": message["content"]})
        if system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system_prompt})
        return messages

    return prompt


def nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _answer(cell: Any, marker: str | None) -> str | list[str] | None:
    """References as text, so that one column has one type; None (and an empty cell) cannot be scored."""
    if cell is None or cell == "" or cell == []:
        return None
    if isinstance(cell, (list, tuple)):
        return [str(item) for item in cell]
    return str(cell).rpartition(marker)[2].strip() if marker else str(cell)


def _completion(cell: Any, place: str) -> str:
    text = completion_text(cell) if isinstance(cell, (str, list)) else ""
    if not text:
        raise ValueError(f"{place}: a completion must be a text or a list of chat messages, got {cell!r:.100}.")
    return text
