"""What was made of a table's columns, shown on its first row: the lines of `--dry-run`."""

from __future__ import annotations

from typing import Any

from tasks.base import Row
from tasks.columns import Columns
from userio.visible import visible

WIDTH = 72  # characters of a cell that are shown


def lines_about(raw: tuple[str, dict[str, Any]], row: Row, columns: Columns) -> list[str]:
    """Lines as `prompt   column 'question': 'What is 2+2?'`, one for each of our columns.

    Args:
        raw: place and cells of the first row. row: what became of them.
    """
    place, cells = raw
    whole = (
        f"column {columns.messages!r}, all before the last answer" if columns.messages else f"column {columns.prompt!r}"
    )
    lines = [f"row      {place}", f"prompt   {whole}: {_shown(row['prompt'])}"]
    if columns.messages or columns.completion:
        name = f"column {columns.messages or columns.completion!r}"
        lines.append(f"text     {name}: {_shown(row.get('completion'))}")
    if columns.answer:
        lines.append(f"answer   column {columns.answer!r}: {_shown(row['answer'])}")
    else:
        lines.append("answer   none")
    others = [name for name in row if name not in ("prompt", "completion", "messages", "answer")]
    lines.append("rewards  " + (", ".join(f"{name}={_shown(row[name], 24)}" for name in others) or "no other column"))
    unread = ["messages"] if "messages" in cells and "messages" not in row else []
    if left := [name for name in (*columns.drop, *unread) if name in cells]:
        lines.append(f"left out {', '.join(left)}")
    return lines


def prompt_length(prompt: Any) -> int:
    """Characters of a prompt; of a chat those of its messages."""
    return len(prompt) if isinstance(prompt, str) else sum(len(str(message["content"])) for message in prompt)


def _shown(value: Any, width: int = WIDTH) -> str:
    if isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value):
        value = " | ".join(f"{one['role']}: {one['content']}" for one in value)
    text = visible(repr(value))
    return text if len(text) <= width else f"{text[: width - 3]}..."
