"""Columns of a user's table -> the rows of a task: "prompt", "answer", "completion" and whatever else there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.text.completions import completion_text
from tasks.base import RESERVED, Row
from tasks.references import answer_after_marker, typed
from userio.read import nearest

logger = logging.getLogger(__name__)

# TRL takes these for pictures that belong to the prompt.
PICTURES = ("image", "images")


def to_rows(
    raw: list[tuple[str, Mapping]],
    source: str,
    *,
    prompt: Callable[[Any, str], Any],
    columns: Mapping[str, str | None],
    answer_marker: str | None = None,
    drop: Sequence[str] = (),
) -> list[Row]:
    """Rows with the task's own column names; every row has every column (None where it had none).

    Args:
        raw: (place, row) pairs; the place ("data.jsonl, line 3") is for messages.
        prompt: turns a cell into a prompt, see `prompt_of`.
        columns: our name -> the table's name, or None where it is not used. The answer's may be a key of an object, as
            in "answer.aliases".
        answer_marker: keep what follows it in answers that are texts.
        drop: columns to leave out.

    Raises:
        ValueError: a column that no row has, an empty prompt or completion, a reserved column name, a column (other
            than the answers) whose cells have different types.
    """
    names = list(dict.fromkeys(key for _, row in raw for key in row))
    for name in drop:
        if name not in names:
            raise ValueError(f"{source} has no column {name!r} (task.drop_columns).{nearest(name, names)}")
    for ours, theirs in columns.items():
        inside = ours == "answer" and theirs is not None and theirs.partition(".")[0] in names
        if theirs is not None and theirs not in names and not inside:
            fix = " Without an answer, set task.answer_column=null." if ours == "answer" else ""
            raise ValueError(
                f"{source} has no column {theirs!r} (task.{ours}_column). It has: {', '.join(names)}."
                f"{nearest(theirs, names)}{_separator(names)}{fix}"
            )
    taken = {
        theirs if theirs in names else theirs.partition(".")[0] for theirs in columns.values() if theirs is not None
    }
    others = [name for name in names if name not in taken and name not in drop]
    if clash := sorted(set(others) & {*RESERVED, *PICTURES, *columns}):
        raise ValueError(
            f"{source}: rename the column {clash[0]!r}, its name has a meaning here"
            + (f" (task.{clash[0]}_column={clash[0]} would use it)" if clash[0] in columns else "")
            + f"; or leave it out: task.drop_columns={[*drop, *clash]}.".replace("'", "")
        )
    for name in others:
        _check_one_type(raw, name)
    answers: list = []
    if (answer := columns.get("answer")) is not None:
        answers = [_cell(cells, answer) for _, cells in raw]
        if answer_marker:
            answers = _marked(answers, answer_marker, source)
        answers = typed(answers, [place for place, _ in raw])
    rows = []
    for number, (place, cells) in enumerate(raw):
        row: Row = {"prompt": prompt(cells.get(columns["prompt"]), place)}
        if answers:
            row["answer"] = answers[number]
        if columns.get("completion"):
            row["completion"] = _completion(cells.get(columns["completion"]), place)
        rows.append(row | {name: cells.get(name) for name in others})
    chats = [isinstance(row["prompt"], list) for row in rows]
    if len(set(chats)) > 1:
        place = raw[chats.index(not chats[0])][0]
        kinds = ("a chat", "a text") if chats[0] else ("a text", "a chat")
        raise ValueError(
            f"{place}: column {columns['prompt']!r} holds {kinds[1]}, but {kinds[0]} at {raw[0][0]}; write one kind, or "
            "task.chat=true makes chats of texts."
        )
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
            if (
                not isinstance(message, Mapping)
                or "role" not in message
                or not {"content", "tool_calls"} & set(message)
            ):
                raise ValueError(f'{place}: a chat message needs "role" and "content", got {message!r:.100}.')
            # Also tool_calls, tool_call_id, name and whatever else the template reads.
            kept = {key: value for key, value in message.items() if value is not None}
            messages.append(kept if "content" in kept else {**kept, "content": ""})
        if system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system_prompt})
        return messages

    return prompt


def _separator(names: list[str]) -> str:
    found = [mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]]
    return f" The cells are separated by {found[0]!r}; .csv means commas." if found else ""


def _check_one_type(raw: list[tuple[str, Mapping]], name: str) -> None:
    first: tuple[str, str, Any] | None = None
    for place, cells in raw:
        if (cell := cells.get(name)) is None:
            continue
        kind = _kind(cell)
        if first is None:
            first = (kind, place, cell)
        elif kind != first[0]:
            raise ValueError(
                f"{place}: column {name!r} holds {kind} ({cell!r:.40}), but {first[0]} ({first[2]!r:.40}) at {first[1]}; "
                "write all its cells as one type (null where there is none)."
            )


def _kind(cell: Any) -> str:
    for types, kind in _KINDS:
        if isinstance(cell, types):
            return kind
    return f"a value of type {type(cell).__name__}"


_KINDS = (
    (bool, "a truth value"),
    ((int, float), "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
)


def _cell(cells: Mapping, column: str) -> Any:
    """The cell of a column, or of a key inside of it ("answer.aliases")."""
    if column in cells:
        return cells[column]
    first, _, rest = column.partition(".")
    inner = cells.get(first)
    return _cell(inner, rest) if isinstance(inner, Mapping) and rest else None


def _marked(answers: list, marker: str, source: str) -> list:
    """What follows the marker.

    Raises:
        ValueError: no answer has it. A warning where some have not; those are kept whole.
    """
    without = [
        number for number, answer in enumerate(answers, start=1) if answer is not None and marker not in str(answer)
    ]
    total = sum(answer is not None for answer in answers)
    if without:
        text = (
            f"{source}: {len(without):,} of {total:,} answers have no {marker!r} (task.answer_marker), e.g. row "
            f"{without[0]} {str(answers[without[0] - 1])!r:.80}."
        )
        if len(without) == total:
            raise ValueError(f"{text} Without a marker, set task.answer_marker=null.")
        logger.warning("%s They are kept whole.", text)
    return [answer_after_marker(answer, marker) for answer in answers]


def _completion(cell: Any, place: str) -> str:
    text = completion_text(cell) if isinstance(cell, (str, list)) else ""
    if not text:
        raise ValueError(f"{place}: a completion must be a text or a list of chat messages, got {cell!r:.100}.")
    return text
