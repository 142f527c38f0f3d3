"""Phrases that must, or must not, stand in the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import regex

from rewards.base import SpanReward
from rewards.text.spans import Span


class _Phrases(SpanReward):
    sign: float

    def __init__(self, phrases: Sequence[str], *, words: bool, case: bool, name: str):
        phrases = [phrases] if isinstance(phrases, str) else list(phrases)
        if not phrases or not all(isinstance(phrase, str) and phrase for phrase in phrases):
            raise ValueError(f"phrases={phrases!r} must be non-empty texts, at least one.")
        self.phrases, self.__name__ = phrases, name
        edge_before, edge_after = (r"(?<!\w)", r"(?!\w)") if words else ("", "")
        flags = 0 if case else regex.IGNORECASE
        self._patterns = [
            regex.compile(edge_before + regex.escape(phrase, literal_spaces=True) + edge_after, flags)
            for phrase in phrases
        ]

    def score(self, text: str) -> float:
        return self.sign * sum(1 for _ in self._found(text)) / len(self.phrases)

    def parts(self, text: str) -> dict[str, float | None]:
        found = {phrase for phrase, _, _ in self._found(text)}
        return {repr(phrase): float(phrase in found) for phrase in self.phrases}

    def text_spans(self, text: str) -> list[Span]:
        return [Span(start, end, self.sign / len(self.phrases)) for _, start, end in self._found(text)]

    def _found(self, text: str) -> Iterator[tuple[str, int, int]]:
        for phrase, pattern in zip(self.phrases, self._patterns, strict=True):
            if found := pattern.search(text):
                yield phrase, *found.span()


class required_phrases(_Phrases):
    """The share of the phrases that stand in the text. Range 0 to 1; an empty text scores 0.

    Args:
        phrases: texts.
        words: only whole words count: no letter, digit or underscore right before or after.
        case: upper and lower case differ.
        name: the name in the logs.

    Spans: at the first occurrence of each phrase. With `words`, the first character behind the phrase has a say too.

    Raises:
        ValueError: no phrases, or an empty one.
    """

    sign = 1.0

    def __init__(
        self, phrases: Sequence[str], *, words: bool = True, case: bool = False, name: str = "required_phrases"
    ):
        super().__init__(phrases, words=words, case=case, name=name)


class forbidden_phrases(_Phrases):
    """Minus the share of the phrases that stand in the text. Range -1 to 0; an empty text scores 0.

    Arguments and spans as in `required_phrases`.
    """

    sign = -1.0

    def __init__(
        self, phrases: Sequence[str], *, words: bool = True, case: bool = False, name: str = "forbidden_phrases"
    ):
        super().__init__(phrases, words=words, case=case, name=name)
