"""How a table's answers are judged: where a completion holds its answer, how it is compared, and whether that can work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from rewards.accuracy import UNITS, exact_match, multiple_choice, numeric_match
from rewards.answers.choice import choice_base
from rewards.answers.numbers import PERCENT
from rewards.answers.scorable import check_references
from rewards.answers.words import NORMALISE
from rewards.extract import after_marker, first_of, in_tag, last_boxed, last_number, whole_text
from tasks.base import Row
from userio.read import nearest

logger = logging.getLogger(__name__)

EXTRACT: dict[str, Callable] = {
    "tag": lambda: in_tag("answer"),
    "boxed": last_boxed,
    "marker": lambda: after_marker("####"),
    "number": last_number,
    "text": whole_text,
    "any": lambda: first_of(in_tag("answer"), last_boxed(), after_marker("####"), last_number()),
}
MATCH = ("exact", "number", "choice", "math")
OPTIONS = ("choices", "options")  # columns that are taken for the options where options_column is not set
_REMEDY = {
    "exact": "Choose another task.extract.",
    "number": "task.units=both passes over words behind a number; task.match=exact or math compares texts.",
    "choice": "task.options_column names the column with the options; task.match=exact compares texts.",
    "math": "Mend those answers.",
}


def judge_of(
    rows: Sequence[Row],
    evaluation: Sequence[Row],
    source: str,
    *,
    match: str,
    extract: str,
    normalise: str = "strip",
    percent: str | None = None,
    units: str = "answer",
    choice_base: int | None = None,
    options_column: str | None = None,
) -> Callable:
    """The reward "answer" for rows of a table, with every reference looked at.

    Args:
        rows, evaluation: all rows of each table, in the file's order.
        source: what the table is called in messages.
        match, extract and the rest: as in `tasks.table.table_task`.

    Raises:
        ValueError: a setting that is no choice; no reference that can be scored. Where some cannot, a warning says so.
    """
    for setting, value, choices in (
        ("match", match, MATCH),
        ("extract", extract, EXTRACT),
        ("normalise", normalise, NORMALISE),
        ("percent", percent, (None, *PERCENT)),
        ("units", units, UNITS),
    ):
        if value not in choices:
            listed = ", ".join(map(str, choices))
            raise ValueError(f"task.{setting}={value}: choose one of {listed}.{nearest(str(value), map(str, choices))}")
    extractor: Any = EXTRACT[extract]()
    shares = {} if percent is None else {"percent": percent}
    if match == "exact":
        reward: Any = exact_match(extractor, normalise=normalise, name="answer")
    elif match == "number":
        reward = numeric_match(extractor, units=units, **shares, name="answer")
    elif match == "choice":
        reward = _choice([*rows, *evaluation], source, extractor, choice_base, options_column)
    else:
        from rewards.maths import math_equal  # needs math-verify

        reward = math_equal(extractor, **shares, name="answer")
    for table, name in ((rows, source), (evaluation, f"{source} (evaluation)")):
        check_references([reward], table, name, f"match={match}", _REMEDY[match])
    return reward


def _choice(
    rows: Sequence[Row], source: str, extractor: Callable, base: int | None, options: str | None
) -> multiple_choice:
    """With numbers among the references: decided from the data whether they count from 0 or 1, and said."""
    if options is None:
        options = next((name for name in OPTIONS if any(isinstance(row.get(name), (list, dict)) for row in rows)), None)
    elif not any(options in row for row in rows):
        there = list(dict.fromkeys(name for row in rows for name in row))
        raise ValueError(f"{source} has no column {options!r} (task.options_column).{nearest(options, there)}")
    numbers, counts = multiple_choice(options=options).numbers(rows)
    if numbers and base is None:
        base = choice_base(numbers, counts)
        if base is None:
            raise ValueError(
                f"{source}: task.match=choice: {len(numbers):,} references are numbers ({min(numbers)} to {max(numbers)}),"
                " and it is not plain whether they count from 0 or from 1. Say so: task.choice_base=0 or "
                "task.choice_base=1."
            )
        logger.warning(
            "%s: %s references are numbers and are taken to count the choices from %d (task.choice_base).",
            *(source, f"{len(numbers):,}", base),
        )
    return multiple_choice(extractor, base=base, options=options, name="answer")
