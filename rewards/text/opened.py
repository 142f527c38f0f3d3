"""Tags that the prompt has opened: counted as opened by the rewards and extractors that look for them.

Where a chat template ends the prompt with `<think>` (DeepSeek-R1, Qwen3's thinking models), or a prompt begins the answer
itself, the completion lacks that tag. `CreditGRPOTrainer` hands what was opened to every reward, one text per row, as the
keyword `opened_by_prompt` ("" where nothing was); completions stay as TRL has them. A reward of this package that looks for
such a tag reads both together.

Who looks for a tag says so by `reads_tag(tag)`, for a tag as it is written ("<think>", "</think>").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.text.spans import Span

COLUMN = "opened_by_prompt"
_TAG = re.compile(r"<[A-Za-z][\w:.-]*>|\[[A-Z][A-Z_]*\]|\u25c1\w+\u25b7")


def openings_of(columns: Mapping[str, Any], rows: int) -> list[str]:
    """What the prompt of each row has opened."""
    given = columns.get(COLUMN)
    return [text or "" for text in given] if isinstance(given, Sequence) and len(given) == rows else [""] * rows


def reads_tag(reader: Any, tag: str) -> bool:
    """Whether a reward or an extractor looks for this tag."""
    ask = getattr(reader, "reads_tag", None)
    return bool(ask is not None and ask(tag))


def text_with_opening(reader: Any, opened: str, text: str) -> str:
    """The text that a reader judges: with what was opened before it, if that opens a tag which the reader looks for."""
    return opened + text if any(reads_tag(reader, tag) for tag in _TAG.findall(opened)) else text


def moved(spans: Sequence[Span] | None, characters: int) -> list[Span] | None:
    """Spans of the whole text as spans of the completion; what the opened part has earned stands at its start."""
    if spans is None or not characters:
        return None if spans is None else list(spans)
    moved = []
    for span in (Span(*each) for each in spans):
        here = span.turn is None  # other turns of a conversation stand where they stood
        moved.append(
            span._replace(start=max(span.start - characters, 0), end=max(span.end - characters, 0)) if here else span
        )
    return moved
