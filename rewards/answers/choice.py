"""Multiple choice: which letter a reference means, and whether a text (rewards/answers/choice_text.py) chooses it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards.answers.choice_text import choice_reader, stated_text
from rewards.answers.frame import Accuracy, Extractor
from rewards.answers.references import reference_text, references_of
from rewards.answers.words import words
from rewards.extract import whole_text

LETTERS = "ABCDEFGHIJ"


class multiple_choice(Accuracy):
    """1 where the chosen letter (or digit, or the text of an option) is the reference's.

    A reference may be a letter ("B", "(b)", "B. Paris"), an index, a digit, or the text of an option. How a text is read
    is said at the top of rewards/answers/choice_text.py. A digit is right where the reference is the same digit.

    Args:
        extract: rewards/extract.py, run first; default the whole text.
        column: dataset column with the reference.
        letters: the choices, in order.
        base: what the first choice is where references are indices or digits: 0 or 1. None: integers count from 0, and a
            text like "2" is met by the digit alone.
        options: dataset column with the texts of the options: a list, a mapping from labels to texts, or a mapping with
            lists "text" and "label". With it, an option's text is an answer and a reference too.
        name: the name in the logs.

    Raises:
        ValueError: letters that are none or not different, a base that is neither 0 nor 1.
    """

    def __init__(
        self,
        extract: Extractor | None = None,
        *,
        column: str = "answer",
        letters: str = LETTERS,
        base: int | None = None,
        options: str | None = None,
        name: str = "multiple_choice",
    ):
        super().__init__(extract or whole_text(), column, name)
        if not letters.isalpha() or len(set(letters.upper())) != len(letters):
            raise ValueError(f"letters={letters!r} must be different letters, as in ABCD.")
        if base not in (None, 0, 1) or isinstance(base, bool):
            raise ValueError(f"base={base!r} must be 0 or 1 (or null): the number of the first choice.")
        self.letters, self.base, self.options = letters.upper(), base, options
        self.columns = (column, options) if options else (column,)

    def same(self, answer: str, reference: Any, **row: Any) -> bool:
        wanted, digit = self.meaning(reference, **row)
        chosen = (
            self._option(answer, row)
            or self._option(stated_text(answer) or "", row)
            or choice_reader(self.letters, digit is not None)(answer)
        )
        return chosen is not None and chosen in (wanted, digit)

    def right_answer(self, reference: Any, **row: Any) -> str | None:
        wanted, digit = self.meaning(reference, **row)
        return wanted or digit

    def meaning(self, reference: Any, **row: Any) -> tuple[str | None, str | None]:
        """The letter that a reference means, and the digit that is right too; None where there is none."""
        text = reference_text(reference).strip()
        labels, texts = self._options(row)
        if text in labels and isinstance(reference, str):
            letter = self._letter(labels, labels.index(text))
            return letter, text if letter and text.isdecimal() else None
        option = self._option(text, row)
        base = self.base if self.base is not None or isinstance(reference, str) else 0
        if not text.isdecimal() or (option and base is None):
            found = None if option else _REFERENCE.fullmatch(text)
            letter = found["letter"].upper() if found else ""
            return option or (letter if letter and letter in self.letters else None), None
        index, digit = int(text) - (base or 0), str(int(text))
        if not 0 <= index < min(len(self.letters), len(texts) or 99):
            return None, None
        return (None if base is None else self.letters[index]), digit

    def numbers(self, rows: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[int | None]]:
        """The references that are numbers and stand for a place among the options, and how many options their rows have."""
        numbers: list[int] = []
        counts: list[int | None] = []
        for row in rows:
            labels, texts = self._options(row)
            for reference in references_of(row.get(self.column)):
                text = reference_text(reference).strip()
                told = isinstance(reference, str) and (text in labels or self._option(text, row) is not None)
                if text.isdecimal() and not told:
                    numbers.append(int(text))
                    counts.append(len(texts) or None)
        return numbers, counts

    def doubt(self, rows: Iterable[Mapping[str, Any]]) -> str | None:
        """What speaks against the way in which numbers among the references are counted; None: nothing."""
        numbers, counts = self.numbers(rows)
        if self.base is None and numbers and choice_base(numbers, counts) != 0:
            return "its references are numbers; set base: 0 or base: 1, the number of the first choice"
        return None

    def _options(self, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        return option_texts(row.get(self.options)) if self.options else ([], [])

    def _option(self, text: str, row: Mapping[str, Any]) -> str | None:
        """The letter of the option with this text; None where there is none, or several, or it is a lone letter."""
        wanted = words(text) if self.options is not None else ""
        if not wanted or (len(wanted) == 1 and wanted.isalpha()):
            return None
        labels, texts = self._options(row)
        found = [i for i, option in enumerate(texts[: len(self.letters)]) if words(option) == wanted]
        return self._letter(labels, found[0]) if len(found) == 1 else None

    def _letter(self, labels: list[str], index: int) -> str | None:
        label = labels[index].upper() if index < len(labels) else ""
        if len(label) == 1 and label in self.letters:
            return label
        return self.letters[index] if index < len(self.letters) else None


def option_texts(cell: Any) -> tuple[list[str], list[str]]:
    """(labels, texts) of a cell with options; labels are [] where it names none. Labels before the texts ("A) 21", "(B)
    5 km") are taken off."""
    if isinstance(cell, Mapping):
        for key in ("text", "texts", "choices", "options"):
            if isinstance(cell.get(key), (list, tuple)):
                labels = next((cell[name] for name in ("label", "labels") if cell.get(name)), [])
                return [str(label) for label in labels], [reference_text(text) for text in cell[key]]
        cell = {label: text for label, text in cell.items() if text is not None}
        return [str(label) for label in cell], [reference_text(text) for text in cell.values()]
    if not isinstance(cell, (list, tuple)):
        return [], []
    texts = [reference_text(option) for option in cell]
    labelled = [_LABEL.match(text) for text in texts]
    if texts and all(match and match[1].upper() == chr(65 + i) for i, match in enumerate(labelled)):
        return [], [text[match.end() :].strip() for text, match in zip(texts, labelled, strict=True) if match]
    return [], texts


def choice_base(numbers: Sequence[int], counts: Sequence[int | None]) -> int | None:
    """Whether the numbers in a reference column count from 0 or from 1; None where the data do not tell.

    Args:
        numbers: the references.
        counts: of options of the same rows; None where it is not known.

    A 0 says 0, and a number as large as the count of its options says 1 (both at once is a contradiction: None). So does
    a column of 20 references and more that has 1 and never 0.
    """
    from_zero = 0 in numbers
    from_one = any(number == count for number, count in zip(numbers, counts, strict=True))
    if from_zero != from_one:
        return 0 if from_zero else 1
    return 1 if not from_zero and len(numbers) >= 20 and 1 in numbers else None


_REFERENCE = re.compile(r"[(\[]?(?P<letter>[A-Za-z])(?:[)\].:]*|(?:[)\]][.:]?|[.:])\s.*)", re.DOTALL)
_LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[).:]\s*(?=\S)")
