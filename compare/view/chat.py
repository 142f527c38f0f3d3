"""Messages and columns of the data set, as a record holds them (JSON of a stranger), in the few forms a page draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from userio.visible import visible

LONGEST = 100_000  # characters of one value
MOST = 200  # messages or columns
# Names under which data sets keep what a completion is measured by: shown first.
ANSWERS = ("answer", "final_answer", "reference_answer", "reference", "solution", "ground_truth", "target", "expected",
           "gold", "label", "chosen", "reward_model")  # fmt: skip


def shown_messages(text: str | None) -> list[dict[str, Any]] | None:
    """[{"role", "text", "thinking"?, "calls"?: [{"name", "arguments"}]}], all visible; None if there is no such list."""
    messages = _parsed(text)
    if not isinstance(messages, list) or not messages or not all(isinstance(each, Mapping) for each in messages):
        return None
    return [_message(message) for message in messages[:MOST]]


def shown_columns(text: str | None) -> list[list[str]]:
    """[[name, value], ...], all visible, what looks like the reference answer first."""
    columns = _parsed(text)
    if not isinstance(columns, dict):
        return []
    places = {name: place for place, name in enumerate(ANSWERS)}
    names = sorted(list(columns)[:MOST], key=lambda name: places.get(name.lower(), len(places)))
    return [[visible(name), _text(columns[name])] for name in names]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    name = message.get("name")
    shown: dict[str, Any] = {"role": _text(role) if role else "?", "text": _content(message.get("content"))}
    if isinstance(name, str) and name:
        shown["role"] += f" {visible(name)}"
    if thinking := message.get("reasoning_content") or message.get("thinking"):
        shown["thinking"] = _text(thinking)
    if isinstance(calls := message.get("tool_calls"), list) and calls:
        shown["calls"] = [_call(call) for call in calls[:MOST]]
    return shown


def _call(call: Any) -> dict[str, str]:
    function = call.get("function", call) if isinstance(call, Mapping) else {"arguments": call}
    function = function if isinstance(function, Mapping) else {"name": function}
    return {"name": _text(function.get("name", "tool")), "arguments": _text(function.get("arguments", ""))}


def _content(content: Any) -> str:
    """Text, or parts of it; a part that is no text is named by its type."""
    if not isinstance(content, list):
        return "" if content is None else _text(content)
    parts = [part.get("text", f"<{part.get('type', '?')}>") if isinstance(part, Mapping) else part for part in content]
    return "\n".join(_text(part) for part in parts[:MOST])


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return visible(text if len(text) <= LONGEST else text[:LONGEST] + "\u2026")


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
