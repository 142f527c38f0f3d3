"""Code blocks of a text in Markdown, as CommonMark has them (package markdown-it-py): which parts are code, in which
language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt

# Block structure alone. Without the rule for indented code a fence counts however far it is indented; without the rule
# for HTML it counts behind a line such as <answer>.
_MARKDOWN = MarkdownIt("zero").enable(["fence", "blockquote", "list"])
_OPENING = re.compile(r"[\s>]*(?:(?:[-*+]|\d{1,9}[.)])\s+)*(`{3,}(?=[^`]*$)|~{3,})")
_LANGUAGE = re.compile(r"\s*\{?\.?([\w+#.-]*)")
_WORD = re.compile(r"[\w+#.-]+")
_TICKS = re.compile("`+")


class Code(NamedTuple):
    """`language` is the first word behind the opening fence, in lower case; "" without one. In code on one line the
    language cannot be told from the code, so it stands in `text`, and `language` is None."""

    language: str | None
    text: str


def code_blocks(text: str) -> Iterator[Code]:
    """The closed code blocks, in order: between fences of three or more backquotes or tildes, in lists and quotations
    too, and between three or more backquotes inside of a line. Line ends become "\\n". Time is linear in the text.

    Fences that models put at the end of a line count as well: `Sure: ```json` opens a block, and `{"a": 1}``` ` closes
    one. A block that the text leaves open is none.
    """
    tokens: list = []
    _MARKDOWN.block.parse("\n".join(_fences_apart(re.sub("\r\n?", "\n", text))), _MARKDOWN, {}, tokens)
    for token in tokens:
        if token.type == "fence" and (code := _closed(token)) is not None:
            yield Code(_language(token.info), code)
        elif token.type == "inline":
            yield from _inline(token.content)


def _closed(token) -> str | None:
    """The code of a fenced block; None if nothing closes it."""
    lines = token.content.count("\n") + (not token.content.endswith("\n") and token.content != "")
    first, end = token.map
    return token.content if end - first - 1 > lines else None  # the opening line, the code, and one more


def _fences_apart(text: str) -> Iterator[str]:
    """The lines, fences at the end of a line on a line of their own."""
    fence = ""  # that opened the block we are in
    for line in text.split("\n"):
        bare = line.rstrip()
        if not fence:
            if found := _OPENING.match(line):
                fence = found.group(1)
            elif before := _before_late_opening(bare):
                yield before
                line = line[len(before) :]
                fence = line[: len(line) - len(line.lstrip("`"))]
        elif bare.endswith(fence):
            before = bare.rstrip(fence[0])
            if before.strip("> \t") == "":
                fence = ""
            elif fence not in before:
                yield before
                line, fence = fence, ""
        yield line


def _before_late_opening(line: str) -> str:
    """The text before three or more backquotes and a word at the end of the line; "" where that is not so."""
    head, _, word = line.rpartition("```")
    before = head.rstrip("`")
    return before if _WORD.fullmatch(word) and before.strip() and "`" not in before else ""


def _inline(text: str) -> Iterator[Code]:
    """Code between equal runs of backquotes within a paragraph."""
    runs = list(_TICKS.finditer(text))
    same: dict[int, int] = {}  # length of a run -> the next run of this length
    closing = [-1] * len(runs)
    for place in reversed(range(len(runs))):
        length = len(runs[place].group())
        closing[place] = same.get(length, -1)
        same[length] = place
    place = 0
    while place < len(runs):
        if (end := closing[place]) < 0:
            place += 1
            continue
        if len(runs[place].group()) >= 3:
            inside = text[runs[place].end() : runs[end].start()]
            opening, line_end, code = inside.partition("\n")
            yield Code(_language(opening), code) if line_end and " " not in opening.strip() else Code(None, inside)
        place = end + 1


def _language(info: str) -> str:
    found = _LANGUAGE.match(info)
    assert found is not None
    return found.group(1).lower()
