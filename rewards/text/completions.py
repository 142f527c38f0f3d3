"""Completions as plain text, whichever of TRL's two shapes they come in."""

from __future__ import annotations

from typing import Any


def completion_text(completion: Any) -> str:
    """The text of one completion.

    A string is returned as it is. A list of messages gives the content of its last assistant message (of its last
    message, where no role says "assistant"); content given as typed blocks gives their text parts joined; a message
    without content (a bare tool call) gives "".

    Raises:
        ValueError: neither a string nor a list of message mappings.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list):
        if not completion:
            return ""
        if all(isinstance(message, dict) for message in completion):
            from_assistant = [message for message in completion if message.get("role") == "assistant"]
            return content_text((from_assistant or completion)[-1].get("content"))
    raise ValueError(f"A completion must be a string or a list of messages, got {type(completion).__name__}.")


def content_text(content: Any) -> str:
    """The text of one message's content: a string, typed blocks (their text parts joined), or None ("").

    Raises:
        ValueError: anything else.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            block.get("text") or "" for block in content if isinstance(block, dict) and block.get("type") == "text"
        )
    raise ValueError(f"The content of a message must be a string or a list of blocks, got {type(content).__name__}.")
