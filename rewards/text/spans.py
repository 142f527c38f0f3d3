"""Where in a text a reward was earned.

A reward function may have a companion method `spans(prompts, completions, **columns)` that returns, per completion, a
list of `Span` (or None: "cannot say where"). Two promises:

* the values of a completion's spans add up to its reward;
* a span's value is decided by the text up to its end ("causal"). A span that is decided by the text being over is
  empty and stands at the end of the text. Credit by return-to-go is unbiased only under this promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """Value `value` was earned by writing characters `start` to `end` (exclusive), and decided at `end`.

    An empty span (`start == end`) is decided by what was written *at* that place: the next character, or, at the end of
    the text, the decision to stop.

    `turn` says of which assistant message the characters are, from 0; None: of the text that `completion_text` gives, the last.
    """

    start: int
    end: int
    value: float
    turn: int | None = None


def span_total(spans: Iterable[Span]) -> float:
    """Sum of the values."""
    return float(sum(span.value for span in spans))
