r"""Which letter a text chooses.

Where a text states its answer, the last statement counts: "The answer is C", "Answer: **B**", "\boxed{B}", "#### D",
"B is correct", "I choose A", "So it is C". A text without one is a choice where it is one ("B", "(b)", "Option A"), begins
with one ("C. because", "B) 5 km", "B" alone on its line), ends on a line that is one, or has one letter in brackets or
bold and no other. Quotes are passed over. Anything else chooses nothing: letters side by side ("A or B", "A, C"), an
enumeration ("a) first ... b) then ..."), "E.g.", "A cat", "the answer is not B".
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

from rewards.answers.numbers import plain_marks

_BOLD = "\x01"
_TEXT = re.compile(r"\\(?:text\w*|math(?:rm|bf|sf|tt)|mbox|operatorname|bf)\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}")
_TAGGED = re.compile(r"<answer>([^<>]*)</answer>")
_LATEX = re.compile(r"\\(?:left|right|displaystyle|quad)(?![A-Za-z])|\\[,;!: ()\[\]]|\$|<[^<>\n]{1,20}>")
_EMPHASIS = re.compile(r"\*{1,3}|__|`")
_QUOTES = re.compile(r"[\"“”„«»]|(?<!\w)['‘’](?=\w['’])|(?<=\w)['’](?!\w)")

_ANSWER = r"(?i:answer|ans|antwort|choice|option|solution|result|final)"
_VERB = r"\b(?i:is|be|are|was|ist)\b(?:\s*:)?|[:=]|\s-\s|->|→"
# No part can match the same characters in two ways, so a scan is linear.
_FILLER = (
    r"(?i:(?:(?:that|with|the|letter|option|choice|answer|therefore|thus|clearly|most|likely|definitely)\b[\s:]*){0,6})"
)
_PICK = r"(?i:choose|chose|pick|picked|select|selected|go with|going with)"
_IT = (
    r"(?i:it(?:'s| is| must be| should be| has to be)|so|thus|hence|therefore|"
    r"matches|matching|corresponds (?:to|with)|corresponding to|i'd say|i would say)"
)
_WHY = r"(?i:because|since|as|is|for|due|which|given|with|and|or)\b"

_BECAUSE = re.compile(r",?\s+(?:because|since)\b", re.IGNORECASE)
_STATED = re.compile(rf"(?:\b{_ANSWER}\b[^.\n?!:]{{0,80}}?(?:{_VERB})|####)[ ]*(?P<words>[^\n]+)")


class ChoiceReader:
    """Reads choices from texts: `reader(text)` is the letter in upper case, or None.

    Args:
        letters: the choices, upper case.
        digits: whether 0 to 10 are choices too.
    """

    def __init__(self, letters: str, digits: bool = False):
        upper, both = _one(letters, digits), _one(letters + letters.lower(), digits)
        # Not "C++", "B-flat", "E.g.", "x = a + b", "1.5", and not the article or the pronoun: "a cat", "I think".
        ends = rf"(?![\w'’^*/\\]|[-.,]\w|\s*[=<>+^*/])(?!(?<=[AaIi])\s+(?!{_WHY})[A-Za-z])"
        self._whole = re.compile(
            rf"(?i:(?:final |correct )?(?:answer|option|choice|letter)\s*:?\s*)?{_marked(both, ends)}[.:!]?"
        )
        self._statements = [
            re.compile(pattern)
            for pattern in (
                rf"\b{_ANSWER}\b[^.\n?!:]{{0,80}}?(?:{_VERB})\s*{_FILLER}{_marked(both, ends)}",
                rf"(?:答案[是为]?|故?选)\s*:?\s*{_marked(both, ends)}",
                rf"(?:####|\b{_PICK})\s*{_FILLER}{_marked(both, ends)}",
                rf"\b{_IT}[,:]?\s+{_FILLER}{_marked(upper, ends)}(?=\s*[.!]?\s*(?:\n|$))",
                rf"(?<![\w-]){_marked(upper, ends)}\s+(?:is|must be|should be|would be)\s+(?:the\s+|indeed\s+|clearly\s+)?"
                r"(?i:correct|right|best|true answer|answer)\b",
            )
        ]
        self._begins = re.compile(rf"{_marked(both, ends)}(?:(?<=[)\]])[\s\d$]|\n|[.:,)]\s|\s-\s)")
        self._another = re.compile(
            rf"\s*(?:[,/&]|\b(?:or|and|nor)\b)\s*(?:(?:option|choice)\s+)?{_marked(both, ends)}(?!\s+(?:is|are|was)\b)"
        )
        self._wrong = re.compile(
            r"\s+(?:is|are|was|seems|looks)(?:n't| not)?\s*(?:wrong|incorrect|false|out|impossible)?\b"
        )
        self._shown = re.compile(
            rf"(?<![\w)])\(({upper})\)|{_BOLD}\(?({upper})\)?(?:[.:)]?{_BOLD}|[.:)]\s[^{_BOLD}\n]*{_BOLD})"
        )

    def __call__(self, text: str) -> str | None:
        shown = _bare(text)
        text = shown.replace(_BOLD, "")
        if whole := self._whole.fullmatch(text):
            return _letter(whole)
        statements = [found for pattern in self._statements for found in pattern.finditer(text)]
        if statements:
            last = max(statements, key=lambda found: found.start("x"))
            return _letter(last) if self._clear(text, last) else None
        if begins := self._begins.match(text):
            return _letter(begins) if self._clear(text, begins) else None
        if line := self._whole.fullmatch(text.rpartition("\n")[2].strip()):
            return _letter(line)
        letters = {next(filter(None, found.groups())) for found in self._shown.finditer(shown)}
        return letters.pop() if len(letters) == 1 else None

    def _clear(self, text: str, found: re.Match) -> bool:
        """Whether no other choice stands beside this one, and it does not begin an enumeration."""
        end = found.end("x")
        bracket = text[end : end + 1] in (")", "]")
        if self._another.match(text, end + bracket):
            return False
        following = "10" if found["x"] == "9" else chr(ord(found["x"][-1]) + 1)
        listed = (bracket or text[end : end + 1] in (".", ":")) and not _BECAUSE.match(text, end + bracket)
        return not (listed and re.compile(rf"(?<![^\s(\[])\(?{re.escape(following)}[).:](?=\s|$)").search(text, end))


def stated_text(text: str) -> str | None:
    """The words of the last statement of an answer, up to the end of its line: "Answer: bank" -> "bank"; None without
    one. For the texts of options."""
    statements = deque(_STATED.finditer(_bare(text).replace(_BOLD, "")), maxlen=1)
    return statements[0]["words"].rstrip(" }") if statements else None


@lru_cache(maxsize=8)
def choice_reader(letters: str, digits: bool = False) -> ChoiceReader:
    """The reader for these choices, made once."""
    return ChoiceReader(letters, digits)


def _one(letters: str, digits: bool) -> str:
    return f"[{letters}]" + ("|10|[0-9]" if digits else "")


def _marked(one: str, ends: str) -> str:
    """A letter in brackets, or alone."""
    return rf"(?:[(\[]\s*(?=(?:{one})\s*[)\]])|(?=(?:{one}){ends})|(?=(?:{one})\)))(?P<x>{one})(?:\s*[)\]])?"


def _letter(found: re.Match) -> str:
    return found["x"].upper()


def _bare(text: str) -> str:
    """Without LaTeX, tags, quotes and emphasis (bold marks become \\x01); a box and a tag `answer` are statements of their own."""
    text = _QUOTES.sub("", plain_marks(text))
    for _ in range(3):
        text = _TEXT.sub(r"\1", text)
    text = _BOX.sub(r"\n#### \1\n", _LATEX.sub("", _TAGGED.sub(r"\n#### \1\n", text)))
    lines = (" ".join(line.split()) for line in _EMPHASIS.sub(_BOLD, text).splitlines())
    return "\n".join(line for line in lines if line)
