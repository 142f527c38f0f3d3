"""What the policy reads of a tool's result: a text, whatever the tool returned, or why there is none."""

from __future__ import annotations

import numbers
from typing import Any

MOST_CHARACTERS = 100_000


class Unusable(Exception):
    """A result that cannot be shown to the policy; the message ends "... returned"."""


def as_shown(result: Any) -> str:
    """The text of a number, a text, a list, a tuple or a dict, as `str` gives it; of content blocks ({"type": "text", ...}) their
    texts, which most chat templates could not render as a list.

    Raises:
        Unusable: None, something else, what cannot be written out or encoded, or more than `MOST_CHARACTERS`.
    """
    if result is None:
        raise Unusable('None; return "" to say nothing')
    if is_blocks(result):
        result = _text_of(result)
    if not isinstance(result, (str, numbers.Number, list, tuple, dict)):
        raise Unusable(f"{type(result).__name__}, which is no text")
    try:
        text = str(result)
    except Exception as error:  # a number of too many digits, a broken __str__, a dict that is too deep
        raise Unusable(f"{type(result).__name__} that cannot be written out ({error!r:.100})") from None
    if len(text) > MOST_CHARACTERS:
        raise Unusable(f"{len(text)} characters, more than {MOST_CHARACTERS}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable("text that cannot be encoded (a lone surrogate)") from None
    return text


def is_blocks(result: Any) -> bool:
    """Whether it is a list of content blocks, as chat templates of models that see take them."""
    return isinstance(result, list) and any(isinstance(part, dict) and "type" in part for part in result)


def _text_of(blocks: list) -> str:
    kinds = {part.get("type") if isinstance(part, dict) else type(part).__name__ for part in blocks}
    if kinds != {"text"}:
        raise Unusable(f"a list with {', '.join(sorted(map(str, kinds)))}")
    texts = [part.get("text") for part in blocks]
    if not all(isinstance(text, str) for text in texts):
        raise Unusable("a block of text without its text")
    return "".join(texts)
