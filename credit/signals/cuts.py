"""Where a completion is cut into pieces: functions that say at which tokens a piece begins.

    credit.signals.answers.cuts=sentences            one of `CUTS`
    credit.signals.answers.cuts=my_cuts.py:steps     one of yours

A function asks by the names of its parameters for what it reads of a row: `mask`, a list of bools, which tokens learn; `tokens`,
what each of them adds to the text. It returns token numbers in ascending order. The first learning token begins a piece in any
case; a number that is no learning token stands for the next one that is.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from credit.checks import member_name, unbound
from credit.signals.contract import Rows
from credit.turns.index import runs_of

Cuts = Callable[..., Sequence[int]]
READS = ("tokens", "mask")
# A full stop counts where a blank follows it: "3.14" is one number.
_SENTENCE = re.compile(
    r"(?:[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s)|[\u3002\uff01\uff1f][\"'\u201d\u2019\u300d\u300f]*)(?:\s*\n\s*)?|\n\s*"
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")


def turns(mask: Sequence[bool]) -> list[int]:
    """Where the policy has the word: a turn's piece ends when the next one begins, so that what a tool answered has been read."""
    return [run[0] for run in runs_of(mask)]


def sentences(tokens: Sequence[str], mask: Sequence[bool]) -> list[int]:
    """Behind each sentence and each line, and at each turn."""
    return sorted({*turns(mask), *_behind(_SENTENCE, tokens)})


def paragraphs(tokens: Sequence[str], mask: Sequence[bool]) -> list[int]:
    """Behind each blank line, and at each turn."""
    return sorted({*turns(mask), *_behind(_PARAGRAPH, tokens)})


def fractions(mask: Sequence[bool], parts: int = 4) -> list[int]:
    """Learning tokens in so many pieces of about the same length.

    Args:
        parts: how many pieces, at least 1; a row with fewer tokens has as many as it has tokens.
    """
    if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1:
        raise ValueError(f"parts={parts!r} must be a whole number of pieces, at least 1.")
    learning = [t for t, learns in enumerate(mask) if learns]
    return sorted({learning[len(learning) * part // parts] for part in range(parts)} if learning else ())


CUTS: dict[str, Cuts] = {cut.__name__: cut for cut in (turns, sentences, paragraphs, fractions)}


def cuts_of(given: Any) -> Cuts:
    """The function behind a name of `CUTS`, or the function that was given.

    Raises:
        ValueError: there is no such name; a parameter that nobody fills.
    """
    if isinstance(given, str) and given in CUTS:
        return CUTS[given]
    given = unbound(given)
    if not callable(given):
        near = difflib.get_close_matches(str(given), CUTS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"cuts={given!r}: must be one of {', '.join(CUTS)}, or a function of yours, my_file.py:function.{hint}"
        )
    for parameter in inspect.signature(given).parameters.values():
        if parameter.name not in READS and parameter.default is parameter.empty:
            raise ValueError(
                f"cuts: {member_name(given)} asks for {parameter.name!r}; a row has {' and '.join(READS)}, anything else needs a "
                "default or a value."
            )
    return cast(Cuts, given)


def cut_points(rows: Rows, cuts: Cuts) -> list[list[int]]:
    """Of each row the learning tokens at which its pieces begin; none where nothing learns.

    Raises:
        ValueError: the function failed, or returned something else than numbers of tokens; names it and the row.
    """
    asked = [name for name in inspect.signature(cuts).parameters if name in READS]
    texts = rows.token_texts() if "tokens" in asked else None
    found = []
    for b, mask in enumerate(rows.mask_BT.tolist()):
        row = {"mask": mask, "tokens": [] if texts is None else texts[b]}
        who = f"the cuts {member_name(cuts)}"
        try:
            told = cuts(**{name: row[name] for name in asked})
        except Exception as error:
            raise ValueError(f"{who} failed on row {b}: {type(error).__name__}: {error}") from error
        if not isinstance(told, (list, tuple)) or not all(_is_place(place, len(mask)) for place in told):
            raise ValueError(
                f"{who} returned {told!r:.80} for row {b}: it must return a list of token numbers, from 0 to {len(mask)}."
            )
        found.append(_at_learning(told, mask))
    return found


def _is_place(place: Any, width: int) -> bool:
    return isinstance(place, int) and not isinstance(place, bool) and 0 <= place <= width


def _at_learning(told: Sequence[int], mask: Sequence[bool]) -> list[int]:
    learning = [t for t, learns in enumerate(mask) if learns]
    places = {next((t for t in learning if t >= place), None) for place in (0, *told)}
    return sorted(place for place in places if place is not None)


def _behind(pattern: re.Pattern, tokens: Sequence[str]) -> list[int]:
    """The tokens that begin at or behind the end of a match."""
    starts, length = [], 0
    for text in tokens:
        starts.append(length)
        length += len(text)
    ends = [match.end() for match in pattern.finditer("".join(tokens))]
    return [
        t for t in (next((t for t, start in enumerate(starts) if start >= end), None) for end in ends) if t is not None
    ]
