"""Finding the answer inside a completion: text -> the answer's text, or None where there is none.

Each extractor is a small class whose instances are called with a text. Accuracy rewards take one as `extract=`; in a
YAML it is a nested `_target_`. All run in time linear in the text. Most can also `write(answer)`: the text of a completion
that holds this answer, which is how a reference that can never be found is noticed before a run.
"""

from __future__ import annotations

import re
from collections import deque

from rewards.answers.numbers import FOUND_NUMBER
from rewards.text.fences import Code, code_blocks
from rewards.text.form import marks
from rewards.text.opened import reads_tag


class whole_text:
    """The completion itself, without surrounding white space; None if nothing is left."""

    def __call__(self, text: str) -> str | None:
        return text.strip() or None

    def write(self, answer: str) -> str:
        return answer


class last_boxed:
    r"""The content of the last complete `\boxed{...}` with something in it, braces balanced; None without one."""

    def __call__(self, text: str) -> str | None:
        open_braces: list[int | None] = []  # where the content of a box begins; None for any other brace
        last = None
        for mark in _BRACE.finditer(text):
            if mark.group() != "}":
                open_braces.append(mark.end() if len(mark.group()) > 1 else None)
            elif open_braces and (start := open_braces.pop()) is not None and (last is None or start > last[0]):
                last = (start, mark.start()) if _blanks(text, start) < mark.start() else last
        return text[last[0] : last[1]].strip() if last else None

    def write(self, answer: str) -> str:
        return rf"\boxed{{{answer}}}"


class in_tag:
    """What stands between `<tag>` and `</tag>`: the last such pair with more than white space and no tag of these names
    in it; None without one. What a format reward pays (rewards/text/form.py) has one such pair.

    A closing tag too many, an empty pair behind, or a pair that a cut-off text leaves open takes nothing away:
    "<answer>9</answer></answer><answer></answer><answer>1" gives "9". Tags in another spelling (`<Answer>`) are not read.

    Args:
        tag: the bare name.
        outside: of the blocks of this other tag; an answer inside of `<think>...</think>` was a thought. A first
            `</think>` that nothing opened closes what the prompt opened. None: pairs are read everywhere.

    Raises:
        ValueError: a tag is given with its angle brackets, or empty.
    """

    def __init__(self, tag: str = "answer", outside: str | None = "think"):
        self.tag, self.outside = tag, None if outside == tag else outside
        self._marks = marks([tag] if self.outside is None else [tag, self.outside])

    def reads_tag(self, tag: str) -> bool:
        return tag in (f"<{self.tag}>", f"</{self.tag}>")

    def __call__(self, text: str) -> str | None:
        found = before = None  # the answer so far, and the answer when the block to stay outside of began
        opened: int | None = None  # where the content of a pair may begin
        inside, begun = True, False  # a text may begin inside of a block that the prompt opened
        for mark in self._marks(text):
            start, opened = opened, None
            if mark.name == self.tag:
                if mark.exact and not mark.closing:
                    opened = mark.end
                elif mark.exact and start is not None:
                    found = text[start : mark.start].strip() or found
            elif not mark.closing:
                before, inside, begun = before if begun else found, True, True
            elif inside:
                found, inside, begun = before, False, False
        return found

    def write(self, answer: str) -> str:
        return f"<{self.tag}>{answer}</{self.tag}>"


class after_marker:
    """What follows the last marker that something follows, up to the end of its line; None without one.

    Args:
        marker: as in GSM8K's "####" or "Answer:".
        whole: take everything to the end of the text instead of the line.

    Raises:
        ValueError: the marker is empty.
    """

    def __init__(self, marker: str = "####", whole: bool = False):
        if not marker:
            raise ValueError("marker must not be empty.")
        self.marker, self.whole = marker, whole

    def __call__(self, text: str) -> str | None:
        for rest in reversed(text.rsplit(self.marker)[1:]):
            if rest := rest.strip():
                return rest if self.whole else rest.partition("\n")[0].strip()
        return None

    def write(self, answer: str) -> str:
        return f"{self.marker} {answer}"


class last_number:
    r"""The last number of the text as written ("-1,234.5e3", "50%", "3/4", "2 1/2", "6 × 10^23", "\frac{3}{4}", "-$5");
    None without one. What commas join without groups of three ("1,5") is found whole, and is no number."""

    def __call__(self, text: str) -> str | None:
        numbers = deque(FOUND_NUMBER.finditer(text), maxlen=1)
        return numbers[0].group() if numbers else None

    def write(self, answer: str) -> str:
        return answer


class last_code_block:
    """The content of the last closed code block with something in it (rewards/text/fences.py: CommonMark's fences, and three
    backquotes on one line); None without one.

    Args:
        language: only blocks marked so ("json"), in any case; "": only unmarked ones; None: any block.
    """

    def __init__(self, language: str | None = None):
        self.language = None if language is None else language.lower()

    def __call__(self, text: str) -> str | None:
        last = None
        for code in code_blocks(text):
            last = self._content(code).strip() or last
        return last

    def _content(self, code: Code) -> str:
        """The text; "" for a block of another language."""
        if self.language is None or code.language == self.language:
            return code.text
        if code.language is not None:
            return ""
        if not self.language:
            return code.text
        # On one line the first word is the language only where it is the one asked for.
        word, *rest = code.text.split(maxsplit=1)[:2] or [""]
        return "".join(rest) if word.lower() == self.language else ""


class first_of:
    """The result of the first extractor that finds something; None if none does.

    Args:
        extract: the extractors, in their order; those given by place come first.

    Raises:
        ValueError: no extractors.
    """

    def __init__(self, *extractors, extract: list | None = None):
        self.extractors = [*extractors, *(extract or [])]
        if not self.extractors:
            raise ValueError("first_of needs at least one extractor.")

    def reads_tag(self, tag: str) -> bool:
        return any(reads_tag(extractor, tag) for extractor in self.extractors)

    def __call__(self, text: str) -> str | None:
        for extractor in self.extractors:
            if (answer := extractor(text)) is not None:
                return answer
        return None

    def write(self, answer: str) -> str:
        write = getattr(self.extractors[0], "write", None)
        return answer if write is None else write(answer)


def _blanks(text: str, start: int) -> int:
    """Where the white space from `start` on ends."""
    found = _SPACE.match(text, start)
    assert found is not None
    return found.end()


_BRACE = re.compile(r"\\boxed\s*\{|[{}]")
_SPACE = re.compile(r"\s*")
