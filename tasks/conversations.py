"""Chats of a table: messages as templates want them, and a whole conversation as a prompt with what answers it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from rewards.text.completions import completion_text
from tasks.base import Row, prompt_key
from tasks.cells import opened

NAMES = ("messages", "conversations", "conversation")  # columns taken for whole conversations where none is named
# ShareGPT writes {"from": ..., "value": ...}.
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def is_chat(cell: Any) -> bool:
    """Whether a cell holds messages, as a list or as its JSON text."""
    cell = opened(cell)
    return isinstance(cell, list) and bool(cell) and all(_is_message(message) for message in cell)


def messages_of(cell: Any, where: str) -> list[dict[str, Any]]:
    """The messages of a cell: {"role": ..., "content": ...} and whatever else the template reads (tool_calls, name, ...);
    ShareGPT's {"from": ..., "value": ...} are renamed.

    Args:
        where: "data.jsonl, line 3, column 'messages'", for messages.

    Raises:
        ValueError: no list of messages; a list that Python has printed instead of JSON.
    """
    given, cell = cell, opened(cell)
    if not isinstance(cell, list) or not cell:
        raise ValueError(f"{where}: a chat must be a list of messages, got {given!r:.100}.{_printed(given)}")
    messages = []
    for message in cell:
        if not isinstance(message, Mapping):
            raise ValueError(f'{where}: a chat message needs "role" and "content", got {message!r:.100}.')
        if "from" in message and "role" not in message:
            message = _renamed(message, where)
        if not isinstance(message.get("role"), str) or not {"content", "tool_calls"} & set(message):
            raise ValueError(f'{where}: a chat message needs "role" and "content", got {dict(message)!r:.100}.')
        kept = {key: value for key, value in message.items() if value is not None}
        messages.append(kept if "content" in kept else {**kept, "content": ""})
    return messages


def asked_and_answered(messages: list[dict[str, Any]], where: str) -> Row:
    """A conversation as {"prompt": ..., "completion": ..., "messages": ...}: the prompt is all that stands before the last
    message of the assistant, the completion the text of that one. One that ends with another's message is all prompt,
    and has no completion.

    Raises:
        ValueError: the assistant speaks first, so that there is nothing to ask.
    """
    if messages[-1]["role"] != "assistant":
        return {"prompt": messages, "completion": None, "messages": messages}
    if len(messages) == 1 or all(message["role"] == "system" for message in messages[:-1]):
        raise ValueError(f"{where}: nobody asks before the assistant's answer; a conversation needs a user's message.")
    return {"prompt": messages[:-1], "completion": completion_text([messages[-1]]), "messages": messages}


def opening_key(row: Row, system_prompt: str | None = None) -> str:
    """What two rows must not share across a split. Of a conversation: all before the first answer, as a longer one would give
    away a shorter; of any other row its prompt. White space does not count, nor does a system prompt that is the same for
    all, nor whether a question stands in a chat."""
    prompt = row["prompt"]
    if messages := row.get("messages"):
        first = next((n for n, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
        prompt = messages[:first] or messages
    if isinstance(prompt, list):
        if system_prompt and prompt[0] == {"role": "system", "content": system_prompt}:
            prompt = prompt[1:]
        if len(prompt) == 1 and prompt[0]["role"] == "user" and isinstance(prompt[0]["content"], str):
            prompt = prompt[0]["content"]
    return " ".join(prompt_key(prompt).split())


def is_one_answer(messages: list[dict[str, Any]]) -> bool:
    """Whether the assistant speaks once, at the end."""
    return [number for number, message in enumerate(messages) if message["role"] == "assistant"] == [len(messages) - 1]


def _is_message(message: Any) -> bool:
    return isinstance(message, Mapping) and ("role" in message or ("from" in message and "value" in message))


def _renamed(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    speaker = str(message["from"]).lower()
    if speaker not in _SPEAKERS:
        raise ValueError(
            f"{where}: nobody knows the speaker {message['from']!r}; write messages with the roles system, user, "
            "assistant and tool."
        )
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {"role": _SPEAKERS[speaker], "content": message.get("value"), **rest}


def _printed(cell: Any) -> str:
    if not isinstance(cell, str) or cell.lstrip()[:1] != "[":
        return ""
    try:
        ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return " Python has printed that list; write it as JSON (json.dumps), or the table as .jsonl or .parquet."
