r"""What a well-formed answer is, in one place: `<think>...</think>` and then `<answer>...</answer>`, nothing else.

    text     = space, block "think", space, block "answer", space
    block    = <name>, content, </name>              the tags exactly so: no capitals, no attributes, no spaces inside
    content  = any text with more than white space in it and no tag of either name, opening or closing, however spelt

The format rewards (`rewards.format.regex_format` with the pattern think_answer, `rewards.tags.think_answer`) pay for
this and nothing else, and `rewards.extract.in_tag` reads the same tags: a text that a format reward pays in full holds
one answer, and that is the one extracted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import regex

# As `str.isspace` and `str.strip` have it; \s of the package `regex` leaves four separators out.
SPACE = r"\s\x1c-\x1f"
_TAG = rf"<[{SPACE}]*+(?:/[{SPACE}]*+)?+(?i:%s)(?:[{SPACE}/][^<>]*+)?+>"


class Mark(NamedTuple):
    """A tag in a text. `exact`: written as it should be, `<name>` or `</name>`; else some other spelling of it."""

    start: int
    end: int
    name: str
    closing: bool
    exact: bool


class marks:
    """Finds the tags of some names in a text, in any spelling (`<Answer>`, `</ answer>`, `<answer id="1">`,
    `<answer/>`); in time linear in the text.

    Raises:
        ValueError: no names, a name twice or with angle brackets, slashes or white space.
    """

    def __init__(self, names: Sequence[str]):
        self._names = list(names)
        if not names or len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"tags={self._names} must be different names, at least one.")
        for name in names:
            if not name or re.search(r"[<>/\s]", name):
                raise ValueError(f"tag={name!r}: give bare names such as answer, without angle brackets.")
        self._tag = regex.compile(_TAG % "|".join(f"({regex.escape(name)})" for name in names))

    def __call__(self, text: str) -> Iterator[Mark]:
        for found in self._tag.finditer(text):
            assert found.lastindex is not None
            written, name = found.group(), self._names[found.lastindex - 1]
            exact = written in (f"<{name}>", f"</{name}>")
            yield Mark(*found.span(), name, written[1:].lstrip().startswith("/"), exact)


def form(names: Sequence[str]) -> str:
    """The regular expression (package `regex`) of a well-formed text with these tags, in this order; linear."""
    tag = _TAG % "|".join(regex.escape(name) for name in names)
    content = rf"[{SPACE}]*+(?:[^<{SPACE}]|(?!{tag})<)(?:[^<]++|(?!{tag})<)*+"
    blocks = [f"<{name}>(?P<{name}>{content})</{name}>" for name in names]
    return f"[{SPACE}]*+" + f"[{SPACE}]*+".join(blocks) + f"[{SPACE}]*+"


def is_blank(text: str) -> bool:
    """Whether there is nothing but white space."""
    return not text.strip()


THINK_ANSWER = ("think", "answer")
# What stands for a pattern by name: `pattern: think_answer` in a YAML.
FORMS = {"think_answer": form(THINK_ANSWER)}
