"""Columns of a user's table -> the rows of a task: "prompt", "answer", "completion" and whatever else there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rewards.text.completions import completion_text
from tasks.base import RESERVED, Row
from tasks.cells import cell_of, is_there, keys_below, opened
from tasks.conversations import NAMES, asked_and_answered, is_chat, messages_of
from tasks.preferences import check_preferences
from tasks.references import answer_after_marker, typed
from userio.read import Raw, nearest

logger = logging.getLogger(__name__)

# TRL takes these for pictures that belong to the prompt.
PICTURES = ("image", "images")
# What tables call these, for the hint where there is no column of the name that is asked for.
_ALSO = {
    "prompt": ("question", "problem", "instruction", "query", "input", "text"),
    "answer": ("ground_truth", "solution", "final_answer", "target", "label", "output"),
}
# Columns that stand in rows of ours, and that a reward would therefore get with another meaning.
_OURS = ("prompt", "answer", "completion")


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what, each a name or a dotted path into one; None: there is none."""

    prompt: str | None
    messages: str | None
    answer: str | None
    completion: str | None
    drop: tuple[str, ...] = ()
    no_answer: str = ""  # why there is no answer, and what to do

    @property
    def named(self) -> tuple[str, ...]:
        paths = (getattr(self, field.name) for field in fields(self)[:4])
        return tuple(path for path in paths if path is not None)


def columns_of(
    raw: Raw,
    source: str,
    *,
    prompt: str = "prompt",
    messages: str | None = None,
    answer: str | None = "answer",
    completion: str | None = None,
    drop: Sequence[str] = (),
) -> Columns:
    """The columns of a table. The defaults are taken where they are there: without a prompt a column of whole conversations
    (`conversations.NAMES`), a column "completion", a column "answer".

    Raises:
        ValueError: a column that is asked for and that no row has, with the nearest name; preference data.
    """
    whole = list(dict.fromkeys(key for _, row in raw for key in row))
    for name in drop:
        if name not in whole:
            raise ValueError(f"{source} has no column {name!r} (task.drop_columns).{nearest(name, whole)}")
    names = [name for name in whole if name not in drop]
    if messages and completion:
        raise ValueError("task.messages_column holds the completions too; leave task.completion_column out.")
    if messages is None and not is_there(names, prompt) and prompt == "prompt":
        messages = next((name for name in NAMES if name in names and is_chat(_first(raw, name))), None)
    if completion is None and messages is None and "completion" in names:
        completion = "completion"
    asked = {"messages": messages} if messages else {"prompt": prompt, "completion": completion}
    named = [path.partition(".")[0] for path in (*asked.values(), answer) if path]
    check_preferences(raw, names, named, source)
    for ours, theirs in asked.items():
        if theirs is not None and not is_there(names, theirs):
            raise ValueError(_no_column(source, theirs, ours, names) + _inside(raw, theirs))
    missing = ""
    if answer is not None and not is_there(names, answer):
        missing = (
            f"{_no_column(source, answer, 'answer', names, raw[0][1])} Without an answer, set task.answer_column=null; rewards of your "
            "own: reward.funcs=[file.py:function]."
        )
        if answer != "answer":
            raise ValueError(missing)
        answer = None
    if messages:
        return Columns(None, messages, answer, completion, (*drop, *({"prompt"} & set(names))), missing)
    return Columns(prompt, None, answer, completion, tuple(drop), missing)


def to_rows(
    raw: Raw,
    source: str,
    columns: Columns,
    *,
    prompt: Callable[[Any, str], Any],
    needs_completion: bool = False,
    answer_marker: str | None = None,
) -> list[Row]:
    """Rows with the task's own column names; every row has every column (None where it had none).

    Args:
        raw: (place, row) pairs; the place ("data.jsonl, line 3") is for messages.
        columns: see `columns_of`.
        prompt: turns a cell into a prompt, see `prompt_of`.
        needs_completion: an empty completion is an error; else the row has none.
        answer_marker: keep what follows it in answers that are texts.

    Raises:
        ValueError: an empty prompt or completion, a reserved column name, a column (other than the answers) whose cells
            have different types.
    """
    others = _others(raw, source, columns)
    answers: list = []
    if columns.answer is not None:
        answers = [cell_of(cells, columns.answer) for _, cells in raw]
        _check_found(raw, answers, columns.answer)
        if answer_marker:
            answers = _marked(answers, answer_marker, source)
        answers = typed(answers, [place for place, _ in raw], columns.answer)
    rows = []
    for number, (place, cells) in enumerate(raw):
        row: Row = {}
        if columns.messages:
            where = f"{place}, column {columns.messages!r}"
            row |= asked_and_answered(messages_of(cell_of(cells, columns.messages), where), where)
            row["prompt"] = prompt(row["prompt"], where)
            row["messages"] = [
                *row["prompt"],
                *row["messages"][len(row["messages"]) - (row["completion"] is not None) :],
            ]
        else:
            assert columns.prompt is not None
            row["prompt"] = prompt(_prompt_cell(cells, columns.prompt, place), f"{place}, column {columns.prompt!r}")
        if answers:
            row["answer"] = answers[number]
        if columns.completion:
            row["completion"] = _completion(
                cell_of(cells, columns.completion), place, columns.completion, needs_completion
            )
        rows.append(row | {name: cells.get(name) for name in others})
    _check_one_kind(rows, raw, columns)
    return rows


def prompt_of(chat: bool, system_prompt: str | None) -> Callable[[Any, str], Any]:
    """A function (cell, place) -> prompt. Message lists stay chat prompts; strings become one if `chat`."""

    def prompt(cell: Any, place: str) -> Any:
        if isinstance(cell, str) and cell.strip() and not is_chat(cell):
            if not chat:
                return cell
            cell = [{"role": "user", "content": cell}]
        elif not is_chat(cell) and (not isinstance(cell, list) or not cell):
            raise ValueError(f"{place}: a prompt must be a text or a list of chat messages, got {cell!r:.100}.")
        messages = messages_of(cell, place)
        if system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system_prompt})
        return messages

    return prompt


def _first(raw: Raw, name: str) -> Any:
    return next((row[name] for _, row in raw if row.get(name) is not None), None)


def _no_column(source: str, theirs: str, ours: str, names: list[str], row: Mapping[str, Any] | None = None) -> str:
    """What is wrong, and the column that may be meant; `row`: whose objects are looked into, too."""
    objects = {name: cell for name in names if isinstance(cell := opened((row or {}).get(name)), Mapping)}
    inner = [f"{name}.{key}" for name, cell in objects.items() for key in cell]
    also = [path for path in (*names, *inner) if path.rpartition(".")[2] in _ALSO.get(ours, ())]
    hint = nearest(theirs, names) or (f" Is it task.{ours}_column={also[0]}?" if also else "")
    shown = ", ".join(names)
    return f"{source} has no column {theirs!r} (task.{ours}_column). It has: {shown}.{hint}{_separator(names)}"


def _inside(raw: Raw, wanted: str) -> str:
    """Of a file that is one object: the lists in it that may be the rows."""
    lists = {} if len(raw) > 1 else {key: cell for key, cell in raw[0][1].items() if isinstance(cell, list) and cell}
    lists = {key: cell for key, cell in lists.items() if all(isinstance(each, Mapping) for each in cell)}
    found = [key for key, cell in lists.items() if wanted in cell[0]] or [k for k, c in lists.items() if not is_chat(c)]
    if not found:
        return ""
    keys = " and ".join(map(repr, found))
    each = (
        "that list, and nothing round it, to a file"
        if len(found) == 1
        else "each list, and nothing round it, to a file of its own"
    )
    return f" The whole is one object, and its rows seem to stand under {keys}: write {each}."


def _others(raw: Raw, source: str, columns: Columns) -> list[str]:
    """The columns that the rewards get under their own names. Of an object that a path leads into, the whole."""
    names = list(dict.fromkeys(key for _, row in raw for key in row if key not in columns.drop))
    whole = [path for path in columns.named if path in names]
    inside = [path.partition(".")[0] for path in columns.named if path not in names]
    others = [
        name for name in names if name not in whole and not (name in inside and name in (*RESERVED, *PICTURES, *_OURS))
    ]
    others = [name for name in others if name != "messages"]  # of a row: the conversation it was made of, and no other
    if clash := sorted(set(others) & {*RESERVED, *PICTURES, *_OURS}):
        use = f" (task.{clash[0]}_column={clash[0]} would use it)" if clash[0] in _OURS else ""
        raise ValueError(
            f"{source}: rename the column {clash[0]!r}, its name has a meaning here{use}"
            + f"; or leave it out: task.drop_columns=[{','.join((*columns.drop, *clash))}]."
        )
    for name in others:
        _check_one_type(raw, name)
    return others


def _prompt_cell(cells: Mapping, path: str, place: str) -> Any:
    cell = cell_of(cells, path)
    if cell is None and "." in path and (there := keys_below(cells.get(path.partition(".")[0]), path)):
        raise ValueError(f"{place}: there is no {path!r} (task.prompt_column): {there}.")
    return cell


def _check_found(raw: Raw, answers: list, path: str) -> None:
    """Raises ValueError where a path into the answers leads nowhere in every row; some rows may be without one."""
    if "." not in path or any(answer is not None for answer in answers):
        return
    for place, cells in raw:
        if there := keys_below(cells.get(path.partition(".")[0]), path):
            raise ValueError(f"{place}: there is no {path!r} (task.answer_column), nor in any other row: {there}.")


def _check_one_kind(rows: list[Row], raw: Raw, columns: Columns) -> None:
    chats = [isinstance(row["prompt"], list) for row in rows]
    if len(set(chats)) > 1:
        place = raw[chats.index(not chats[0])][0]
        kinds = ("a chat", "a text") if chats[0] else ("a text", "a chat")
        raise ValueError(
            f"{place}: column {columns.prompt!r} holds {kinds[1]}, but {kinds[0]} at {raw[0][0]}; write one kind, or "
            "task.chat=true makes chats of texts."
        )


def _separator(names: list[str]) -> str:
    found = [mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]]
    return f" The cells are separated by {found[0]!r}; .csv means commas." if found else ""


def _check_one_type(raw: Raw, name: str) -> None:
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
                f"write all its cells as one type (null where there is none), or leave it out: task.drop_columns=[{name}]."
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


def _completion(cell: Any, place: str, column: str, is_needed: bool) -> str | None:
    if cell in (None, "") and not is_needed:
        return None
    chat = messages_of(cell, f"{place}, column {column!r}") if is_chat(cell) else cell
    text = completion_text(chat) if isinstance(chat, (str, list)) else ""
    if not text:
        raise ValueError(
            f"{place}, column {column!r}: a completion must be a text or a list of chat messages, got {cell!r:.100}."
        )
    return text
