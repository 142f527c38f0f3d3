"""How likely the right answer is, had it to be given now: at cut points of what the policy wrote. docs/credit/answers.md.

credit=igpo                    the policy that sampled answers at the beginning of each turn; column `answer`
credit/signals=answers         ... with settings: credit.signals.answers.column=gold, .cuts=sentences, .opening="Answer: "
credit/signals=answers_ema     a moving average of the policy answers
credit/signals=answers_model   another model does, credit.signals.answers.name=path/to/model
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from credit.checks import member_name, unbound
from credit.signals.contract import Rows, Signal, named_columns, signal
from credit.signals.cuts import Cuts, cut_points, cuts_of
from credit.signals.readers import AverageReader, ModelReader, Reader

Answer = Callable[[Any, Any, Mapping[str, Any]], "str | None"]


class Answers(Reader):
    """Makes `answer_logps_BC`, `answer_lengths_B` and `piece_BT`; the policy that sampled answers.

    Args:
        column: of the data set; a text or a number in each row, or none where a row has no answer.
        answer: a function (prompt, completion, columns) -> text or None, in the column's place: my_file.py:function.
        cuts: where a piece begins: turns, sentences, paragraphs, fractions, or my_file.py:function (credit/signals/cuts.py).
        opening: a text between what was written and the answer; may hold special tokens, as those that end a turn.

    Raises:
        ValueError: there are no such cuts, `answer` is no function, `column` or `opening` no text; (when called) the data set has no such
            column, or an answer is no text.
    """

    provides: Mapping[str, Signal] = {
        "answer_logps_BC": signal(
            "answer_logps_BC",
            "both",
            "log-prob of the row's answer (column `answer`), had it to be given where piece c of the completion begins; NaN beyond "
            "the row's pieces and where it has no answer; costs a pass over prompt, earlier pieces and answer for each piece",
            float("nan"),
        ),
        "answer_lengths_B": signal(
            "answer_lengths_B", "both", "int64, tokens of the row's answer; 0 where it has none"
        ),
        "piece_BT": signal(
            "piece_BT",
            "both",
            "number of the piece each learning token belongs to, from 0, as int64: turns, unless credit/signals=answers says "
            "otherwise; -1 where the mask is false",
            -1,
        ),
    }

    def __init__(
        self,
        column: str = "answer",
        answer: Answer | None = None,
        cuts: str | Cuts = "turns",
        opening: str = "",
    ):
        for name, text in (("column", column), ("opening", opening)):
            if not isinstance(text, str):
                raise ValueError(f"{name} must be a text, got {text!r}.")
        self.column, self.answer, self.cuts, self.opening = column, unbound(answer), cuts_of(cuts), opening
        if answer is not None and not callable(self.answer):
            raise ValueError(f"answer must be a function (prompt, completion, columns), got {answer!r}.")

    def check_columns(self, there: Collection[str]) -> None:
        """Raises ValueError: the data set, which has these columns, has not got the answers'."""
        if self.answer is None and self.column not in there:
            raise ValueError(
                f"answers: the data set has no column {self.column!r}; there is {named_columns(there)}. Name the column with the right "
                "answers (credit.signals.answers.column=...), or give a function that knows them "
                "(credit.signals.answers.answer=my_file.py:function); docs/credit/answers.md."
            )

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        cuts = cut_points(rows, self.cuts)
        made = {"piece_BT": numbered_pieces(cuts, rows.mask_BT)}
        if {"answer_logps_BC", "answer_lengths_B"} & rows.wanted:
            found_BC, lengths_B = rows.answer_logps(cuts, self._answers(rows), self.opening, self.model_for(rows))
            made |= {"answer_logps_BC": found_BC, "answer_lengths_B": lengths_B}
        return made

    def _answers(self, rows: Rows) -> list[str | None]:
        if self.answer is None:
            self.check_columns(rows.columns)
            return [_text(value, row, f"column {self.column!r}") for row, value in enumerate(rows.columns[self.column])]
        found, who = [], f"the function {member_name(self.answer)}"
        for b, (prompt, completion) in enumerate(zip(rows.prompts, rows.completions, strict=True)):
            columns = {name: values[b] for name, values in rows.columns.items()}
            try:
                told = self.answer(prompt, completion, columns)
            except Exception as error:
                raise ValueError(f"answers: {who} failed on row {b}: {type(error).__name__}: {error}") from error
            found.append(_text(told, b, who))
        return found


class AverageAnswers(AverageReader, Answers):
    """As `Answers`; a moving average of the policy answers, moved once for each generation batch of training.

    Args:
        decay: how much of the average stays each time.
        column: of the data set; a text or a number in each row, or none where a row has no answer.
        answer: a function (prompt, completion, columns) -> text or None, in the column's place: my_file.py:function.
        cuts: where a piece begins: turns, sentences, paragraphs, fractions, or my_file.py:function (credit/signals/cuts.py).
        opening: a text between what was written and the answer; may hold special tokens, as those that end a turn.
    """

    def __init__(
        self,
        decay: float = 0.99,
        column: str = "answer",
        answer: Answer | None = None,
        cuts: str | Cuts = "turns",
        opening: str = "",
    ):
        Answers.__init__(self, column, answer, cuts, opening)
        self.average_with(decay, "the average that answers")


class ModelAnswers(ModelReader, Answers):
    """As `Answers`; another model answers, which reads the same token ids.

    Args:
        name: its folder or hub id.
        column: of the data set; a text or a number in each row, or none where a row has no answer.
        answer: a function (prompt, completion, columns) -> text or None, in the column's place: my_file.py:function.
        cuts: where a piece begins: turns, sentences, paragraphs, fractions, or my_file.py:function (credit/signals/cuts.py).
        opening: a text between what was written and the answer; may hold special tokens, as those that end a turn.
    """

    nameless = "credit/signals=answers_model is no model yet. Set credit.signals.answers.name=<folder or hub id>"

    def __init__(
        self,
        name: str | None = None,
        column: str = "answer",
        answer: Answer | None = None,
        cuts: str | Cuts = "turns",
        opening: str = "",
    ):
        Answers.__init__(self, column, answer, cuts, opening)
        self.name = name


answers = Answers()


def numbered_pieces(cuts: list[list[int]], mask_BT: Tensor) -> Tensor:
    """(B, T) int64 number of the piece that each learning token belongs to, -1 elsewhere. `cuts`: where pieces begin."""
    begins_BT = torch.zeros_like(mask_BT, dtype=torch.int64)
    for b, places in enumerate(cuts):
        begins_BT[b, places] = 1
    return (begins_BT.cumsum(dim=1) - 1).masked_fill(~mask_BT, -1)


def _text(value: Any, row: int, who: str) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError(
        f"answers: {who} has {value!r:.80} in row {row}; an answer is one text that is not empty, or a number, and None where the "
        "row has none."
    )
