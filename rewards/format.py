"""Does the text have the right form, said as a regular expression.

Lower-case classes, in the manner of `functools.partial`: each is used as a factory (`_target_` in a YAML) and its
instances are the reward functions.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import regex

from rewards.base import SpanReward
from rewards.text.form import FORMS
from rewards.text.spans import Span

MATCHES = ("full", "search")
_ESCAPE = regex.compile(r"\\(.)")


class regex_format(SpanReward):
    """1 where the text matches the pattern, else 0.

    Args:
        pattern: in the syntax of the package `regex` (a superset of `re`), or "think_answer": the well-formed answer
            of rewards/text/form.py, with the groups "think" and "answer".
        match: "full", the whole text must match; "search", a match anywhere is enough.
        flags: names of regex flags, "DOTALL|IGNORECASE" or a list; "" for none. Default: `.` matches newlines too. The
            form think_answer has none.
        groups: for partial credit, named groups of the pattern and what each is worth. A text that matches earns the
            value of every group that took part and is not blank. Without it a match earns 1.
        timeout: seconds one text may take. A text that takes longer (catastrophic backtracking) is not scored (None)
            and counts as failed.
        name: the name in the logs.

    Range: 0 to 1, or 0 to the sum of the positive group values. An empty text scores whatever the pattern says.

    Spans. "search": the value stands at the place where the first match was complete. "full": the value is credited at
    the start and taken back at the first character after which the text cannot match any more, so tokens after the
    mistake get no blame for it (a potential: 1 while a match is still possible). Both are decided by the text so far
    for patterns whose prefixes the `regex` package judges rightly (`partial=True`); lookahead across the end of the
    prefix and `$` can shift a span, never the sum.

    Raises:
        ValueError: the pattern does not compile, an unknown flag or group, a bad timeout.
    """

    def __init__(
        self,
        pattern: str,
        *,
        match: str = "full",
        flags: str | list[str] = "DOTALL",
        groups: Mapping[str, float] | None = None,
        timeout: float = 1.0,
        name: str = "regex_format",
    ):
        if match not in MATCHES:
            raise ValueError(f"match={match!r} is not one of {', '.join(MATCHES)}.")
        if not timeout > 0:
            raise ValueError(f"timeout={timeout} must be positive seconds; a text without a limit can stall the run.")
        try:
            number = regex_flags(flags)
            self.pattern = regex.compile(FORMS[pattern]) if pattern in FORMS else regex.compile(pattern, number)
        except regex.error as error:
            raise ValueError(f"The pattern of reward {name!r} does not compile: {error}\n  {pattern}") from None
        self.groups = dict(groups or {})
        for group in self.groups:
            if group not in self.pattern.groupindex:
                near = difflib.get_close_matches(group, self.pattern.groupindex, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"write it as (?P<{group}>...)."
                raise ValueError(f"The pattern of reward {name!r} has no group {group!r}; {hint}")
        self.match, self.timeout, self.__name__ = match, float(timeout), name

    def reads_tag(self, tag: str) -> bool:
        return tag in self.pattern.pattern or tag in _ESCAPE.sub(r"\1", self.pattern.pattern)

    def score(self, text: str) -> float:
        return self._value(self._match(text))

    def parts(self, text: str) -> dict[str, float | None]:
        found = self._match(text)
        named = {group: self._group_value(found, group) for group in self.groups}
        return {"match": float(found is not None), **named}

    def text_spans(self, text: str) -> list[Span]:
        found = self._match(text)
        value = self._value(found)
        if self.match == "search":
            return [Span(found.start(), self._earliest(text, found.end()), value)] if found else []
        full = sum(self.groups.values()) if self.groups else 1.0
        spans = [Span(0, min(1, len(text)), full)]
        if found is None:
            alive = self._viable(text)
            spans.append(Span(alive, min(alive + 1, len(text)), -full))
        elif value != full:
            spans.append(Span(len(text), len(text), value - full))
        return spans

    def _match(self, text: str):
        matcher = self.pattern.fullmatch if self.match == "full" else self.pattern.search
        return matcher(text, timeout=self.timeout)

    def _value(self, found) -> float:
        if found is None:
            return 0.0
        return float(sum(self._group_value(found, group) for group in self.groups)) if self.groups else 1.0

    def _group_value(self, found, group: str) -> float:
        written = found is not None and (found.group(group) or "").strip()
        return float(self.groups[group]) if written else 0.0

    def _viable(self, text: str) -> int:
        """Length of the longest prefix that more text could still turn into a full match."""

        def possible(end: int) -> bool:
            return self.pattern.fullmatch(text[:end], partial=True, timeout=self.timeout) is not None

        return _last_true(possible, len(text))

    def _earliest(self, text: str, end: int) -> int:
        """Length of the shortest prefix that already holds a match, at most `end`."""

        def absent(length: int) -> bool:
            return self.pattern.search(text[:length], timeout=self.timeout) is None

        return min(_last_true(absent, end) + 1, end)


def regex_flags(flags: str | list[str]) -> int:
    """Flag names -> the number `regex.compile` takes.

    Raises:
        ValueError: no such flag; names the nearest one.
    """
    names = [name.strip() for name in flags.split("|")] if isinstance(flags, str) else list(flags)
    known = regex.RegexFlag.__members__
    value = 0
    for name in filter(None, names):
        if name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            raise ValueError(f"No regex flag {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
        value |= known[name.upper()]
    return int(value)


def _last_true(holds, end: int) -> int:
    """Largest n in 0..end with holds(n), for a condition that stays false once it is false; 0 if it never holds."""
    if holds(end):
        return end
    low, high = 0, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
