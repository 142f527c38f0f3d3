"""The frame of a reward that scores each completion by itself: texts in, one value per text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rewards.guard.failures import report_failure
from rewards.text.completions import completion_text
from rewards.text.opened import moved, openings_of, reads_tag, text_with_opening
from rewards.text.spans import Span


class TextReward:
    """A reward that looks at one completion's text (and that row's dataset columns) at a time.

    A subclass sets `__name__` (the name in TRL's logs) and writes `score`. It may also write
    `text_spans(text, **row) -> list[Span]`, which gives it the companion method `spans`, and
    `parts(text, **row) -> dict[str, float]`, the named parts that `python -m rewards.score` shows.

    Instances are plain picklable objects; TRL, worker processes and Hydra all take them as they are.
    """

    __name__: str
    columns: tuple[str, ...] = ()
    """Names of the dataset columns `score` wants as keyword arguments, one value per row."""

    def score(self, text: str, /, **row: Any) -> float | None:
        """Value of one text; None where it cannot be scored. `TimeoutError` marks the row as failed."""
        raise NotImplementedError

    def parts(self, text: str, /, **row: Any) -> dict[str, float | None]:
        """Named parts of the score, for people. Default: the score under the reward's own name."""
        return {self.__name__: self.score(text, **row)}

    def reads_tag(self, tag: str) -> bool:
        """Whether it looks for this tag ("<think>"). A completion whose prompt has opened such a tag is judged together with
        what was opened (rewards/text/opened.py). Default: what its extractor says."""
        return reads_tag(getattr(self, "extract", None), tag)

    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list[float | None]:
        """One value per completion, in order.

        Raises:
            ValueError: a needed dataset column is missing or has the wrong length.
        """
        wanted = self._wanted(completions, columns)
        opened = openings_of(columns, len(completions))
        scores: list[float | None] = []
        for row, completion in enumerate(completions):
            try:
                values = {name: column[row] for name, column in wanted.items()}
                text = text_with_opening(self, opened[row], completion_text(completion))
                scores.append(self.score(text, **values))
            except TimeoutError as error:
                report_failure(row, "timeout", f"{self.__name__}: {error}")
                scores.append(None)
        return scores

    def _wanted(self, completions: Sequence, columns: dict[str, Any]) -> dict[str, list]:
        missing = [name for name in self.columns if name not in columns]
        if missing:
            given = ", ".join(sorted(columns)) or "none"
            raise ValueError(
                f"Reward {self.__name__!r} needs the dataset column {missing[0]!r}; columns given: {given}. Rename the "
                "column in the dataset, or tell the reward which one to read."
            )
        for name in self.columns:
            if len(columns[name]) != len(completions):
                raise ValueError(f"Column {name!r} has {len(columns[name])} rows, there are {len(completions)} texts.")
        return {name: columns[name] for name in self.columns}


class SpanReward(TextReward):
    """A `TextReward` that can also say where the reward was earned (rewards/text/spans.py)."""

    def text_spans(self, text: str, /, **row: Any) -> list[Span] | None:
        """Causal spans whose values add up to `score(text)`; None where there is no score."""
        raise NotImplementedError

    def spans(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list[list[Span] | None]:
        """One list of spans per completion; None for a row that cannot be scored."""
        wanted = self._wanted(completions, columns)
        opened = openings_of(columns, len(completions))
        result: list[list[Span] | None] = []
        for row, completion in enumerate(completions):
            try:
                values = {name: column[row] for name, column in wanted.items()}
                own = completion_text(completion)
                text = text_with_opening(self, opened[row], own)
                result.append(moved(self.text_spans(text, **values), len(text) - len(own)))
            except TimeoutError as error:
                report_failure(row, "timeout", f"{self.__name__}: {error}")
                result.append(None)
        return result
