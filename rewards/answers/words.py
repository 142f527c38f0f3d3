r"""Texts made comparable: white space, Unicode forms, and (for "words") case and the marks of sentences.

Only what carries no meaning goes: -5 is not 5, C++ is not C, 3/4 is not "3 4", x² is x^2 and not x2.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.answers.numbers import plain_marks

_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|`{1,3})(?=\S)([^*`]*[^*`\s])\1(?![\w*])")
_QUOTES = re.compile(r"[\"“”„«»‹›]|(?<!\w)['‘’]|['‘’](?!\w)")
# A mark of a sentence: before a space or the end, and not the point or sign of a number (".5", "5!").
_ENDS = re.compile(r"(?<![,;:?…!.])(?:[,;:?…]|(?<!\d)!|\.)+(?=\s|$)|(?<=[^\W\d_])\.(?=[^\W\d_])")
_WHOLE = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\{([^{}]*)\}")
_ASIDE = re.compile(r"(?<!\S)[(\[]([^()\[\],]*)[)\]](?!\S)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")


def stripped(text: str) -> str:
    """Unicode forms of one mark made equal, no white space round it."""
    return plain_marks(text).strip()


def words(text: str) -> str:
    """The words in lower case, one space between them, without quotes, emphasis, brackets round them, marks of sentences
    and hyphens between letters. Signs, operators, currency, `#`, `%`, `_`, and points and commas in numbers stay."""
    text = _QUOTES.sub("", _EMPHASIS.sub(r"\2", stripped(text))).replace("’", "'").casefold()
    text = _HYPHEN.sub(" ", text)
    while True:
        shorter = _ENDS.sub("", text).strip()
        if (found := _WHOLE.fullmatch(shorter)) and "," not in shorter:
            shorter = next(part for part in found.groups() if part is not None)
        if shorter == text:
            break
        text = shorter
    return " ".join(_ASIDE.sub(r"\1", text).split())


NORMALISE: dict[str, Callable[[str], str]] = {"none": str, "strip": stripped, "words": words}
