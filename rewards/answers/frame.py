"""The frame of a reward that compares an extracted answer with the references of its row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.answers.references import reference_text, references_of
from rewards.base import TextReward

Extractor = Callable[[str], "str | None"]


class Accuracy(TextReward):
    """Extract, then compare with every reference of the row.

    A subclass writes `same`, and `right_answer` where not every reference can be met.
    """

    def __init__(self, extract: Extractor, column: str, name: str):
        self.extract, self.column, self.columns, self.__name__ = extract, column, (column,), name

    def same(self, answer: str, reference: Any, **row: Any) -> bool:
        """Whether the answer meets one reference."""
        raise NotImplementedError

    def right_answer(self, reference: Any, **row: Any) -> str | None:
        """An answer that meets the reference; None: there is none, a row with no other reference is not scored."""
        return reference_text(reference)

    def can_score(self, reference: Any, **row: Any) -> bool:
        """Whether any completion could score 1 for this cell of the reference column."""
        for one in references_of(reference):
            answer = self.right_answer(one, **row)
            write = getattr(self.extract, "write", None)
            found = answer if answer is None or write is None else self.extract(write(answer))
            if found is not None and self.same(found, one, **row):
                return True
        return False

    def score(self, text: str, /, **row: Any) -> float | None:
        others = {name: value for name, value in row.items() if name != self.column}
        references = [one for one in references_of(row[self.column]) if self.right_answer(one, **others) is not None]
        if not references:
            return None
        answer = self.extract(text)
        return float(answer is not None and any(self.same(answer, reference, **others) for reference in references))

    def parts(self, text: str, /, **row: Any) -> dict[str, float | None]:
        return {"answer found": float(self.extract(text) is not None), "right": self.score(text, **row)}
