"""References that a reward can never score are counted before a run: all of them stop it, some are said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rewards.answers.references import reference_text, references_of

_log = logging.getLogger("rewards")


def check_references(
    funcs: Iterable[Any], rows: Sequence[Mapping[str, Any]], source: str, called: str | None = None, remedy: str = ""
) -> None:
    """Counts, for every reward that compares with references, the rows whose references it can never score.

    Args:
        funcs: rewards, guarded and composed ones too; those without `can_score` are passed over.
        rows: of the data set, in the order in which rows are counted in messages.
        source: what the data are called in messages.
        called: what the reward is called in messages; None: by its name.
        remedy: what to do about it.

    Raises:
        ValueError: no row has a reference, or none of the references can be scored, or it is not known how numbers stand
            for choices. Where some cannot be scored, or some rows have none, a warning says how many.
    """
    for func in comparing(funcs):
        name = called or f"reward {func.__name__!r}"
        if (doubt := getattr(func, "doubt", lambda rows: None)(rows)) is not None:
            raise ValueError(f"{source}: {name}: {doubt}.")
        bad, total = [], 0
        for number, row in enumerate(rows, start=1):
            others = {column: row.get(column) for column in func.columns if column != func.column}
            if references_of(row.get(func.column)):
                total += 1
                if not func.can_score(row.get(func.column), **others):
                    bad.append(number)
        if rows and not total:
            raise ValueError(
                f"{source}: no row has anything in the column {func.column!r} to compare answers with. Name the right "
                "column, or do without this reward (task=jsonl and hub: task.answer_column=null)."
            )
        if total < len(rows):
            _log.warning(
                "%s: %s of %s rows have no reference; %s leaves them unscored.",
                source,
                *_counts(len(rows) - total, len(rows)),
                name,
            )
        if bad:
            text = (
                f"{source}: {name} cannot score {len(bad):,} of {total:,} references, e.g. row {bad[0]} "
                f"{_shown(rows[bad[0] - 1].get(func.column))}.{remedy and ' ' + remedy}"
            )
            if len(bad) == total:
                raise ValueError(text)
            _log.warning("%s", text)


def comparing(funcs: Iterable[Any]) -> list[Any]:
    """The rewards that compare answers with references (`can_score`), inside of guards and compositions."""
    found: list[Any] = []
    for func in funcs:
        func = getattr(getattr(func, "guard", func), "func", func)
        inner: Callable | list | None = getattr(func, "rewards", None)
        if isinstance(inner, list):
            found += comparing(inner)
        elif callable(getattr(func, "can_score", None)):
            found.append(func)
    return found


def _counts(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _shown(cell: Any) -> str:
    references = [reference_text(reference) for reference in references_of(cell)]
    text = json.dumps(references[0] if len(references) == 1 else references, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
