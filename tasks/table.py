"""A table of questions -> a task: which columns, how answers are found and judged, what is held out."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence

from rewards.format import regex_format
from tasks.about import lines_about, prompt_length
from tasks.base import Row, Task, prompt_key
from tasks.cells import is_there
from tasks.columns import Columns, columns_of, prompt_of, to_rows
from tasks.conversations import opening_key
from tasks.judge import judge_of
from userio.read import Raw

logger = logging.getLogger(__name__)

LEARNT = ("completion", "messages")  # what train_sft.py learns from, and no reward sees


def table_task(
    source: str,
    raw: Raw,
    raw_evaluation: Raw | None,
    *,
    name: str,
    prompt_column: str = "prompt",
    answer_column: str | None = "answer",
    completion_column: str | None = None,
    messages_column: str | None = None,
    eval_share: float = 0.1,
    chat: bool | None = None,
    system_prompt: str | None = None,
    answer_marker: str | None = None,
    drop_columns: Sequence[str] = (),
    max_prompt_chars: int | None = None,
    match: str = "exact",
    extract: str = "tag",
    normalise: str = "strip",
    percent: str | None = None,
    units: str = "answer",
    choice_base: int | None = None,
    options_column: str | None = None,
    pattern: str | None = "think_answer",
    format_weight: float = 0.2,
    seed: int = 0,
) -> Task:
    """A `Task` from a table, judged by a regular expression (the format) and the answer column.

    Args:
        source: what the table is called in messages.
        raw, raw_evaluation: the rows, with the place of each. Prompts that stand in both are dropped from training,
            with a warning. Without evaluation rows, `eval_share` of the distinct prompts is held out, chosen by a hash
            of the prompt, so that the choice does not move when rows are added or reordered. Conversations that open
            alike are one prompt here.
        name: of the task.
        prompt_column: strings, or lists of chat messages ({"role": ..., "content": ...}); as every column here a name or a
            dotted path, as in "extra.question" or "conversations.0.value".
        answer_column: the reference answer, becomes the column "answer" and keeps its type (tasks/references.py); a list
            means any of these; "reward_model.ground_truth" is a key of an object. None: no answer reward.
        completion_column: texts to imitate, for train_sft.py and the warm start of model=embedded; None: the column
            "completion", where there is one.
        messages_column: whole conversations: train_grpo.py asks with all before the last message of the assistant,
            train_sft.py learns every message of the assistant. None: a column "messages" or "conversations", where there
            is no prompt.
        eval_share: share of the distinct prompts that is held out where there are no evaluation rows, chosen by a hash.
        chat: True wraps string prompts as a user message. None: only if there is a system prompt.
        system_prompt: first message of every chat prompt that has no system message.
        answer_marker: keep what follows it in the answer column (GSM8K: "####").
        drop_columns: columns to leave out, such as one whose name has a meaning for TRL.
        max_prompt_chars: rows whose prompt has more characters are left out, and counted; None: all stay.
        match: exact (text; numbers and booleans by their value), number (numeric, with tolerance), choice (letters A to
            J, indices, texts of options) or math (mathematical equality, needs math-verify).
        extract: where the completion holds its answer: tag (<answer>), boxed, marker (####), number (the last one),
            text (all of it), any (the first of these that is found).
        normalise: how exact compares texts: strip, words or none, see `rewards.accuracy.exact_match`.
        percent: for number: what "20%" is, either, fraction or number, see `rewards.accuracy.numeric_match`; None: the
            default of the reward.
        units: for number: where words behind it are passed over ("9 cm"), answer, both or none.
        choice_base: 0 or 1, what the first choice is where references are numbers; None: decided from the data, and said.
        options_column: texts of the options, see `rewards.answers.choice.multiple_choice`; None: a column "choices" or "options"
            that holds lists or objects, if there is one.
        pattern: of the format reward over the whole completion: "think_answer" (the well-formed answer of
            rewards/text/form.py) or a regular expression of your own; None: no format reward.
        format_weight: weight of the format reward; the answer reward has the rest of 1.
        seed: of the held-out choice.

    Every other column reaches the rewards under its own name.

    Raises:
        ValueError: a missing column (with the nearest name), a row that cannot be used (with its place), settings that
            are no choice, references that can never be scored, nothing left to train on.
    """
    if not 0 <= eval_share < 1:
        raise ValueError(f"task.eval_share={eval_share} must lie in [0, 1).")
    if not 0 <= format_weight <= 1:
        raise ValueError(f"task.format_weight={format_weight} must lie in [0, 1]; the answer's weight is the rest.")
    if system_prompt and chat is False:
        raise ValueError("task.system_prompt needs chat prompts: remove task.chat=false.")

    asked = dict(prompt=prompt_column, messages=messages_column, answer=answer_column, drop=tuple(drop_columns))
    columns = columns_of(raw, source, completion=completion_column, **asked)
    make = prompt_of(chat=bool(chat or (chat is None and system_prompt)), system_prompt=system_prompt)
    reading = dict(prompt=make, needs_completion=completion_column is not None, answer_marker=answer_marker)
    given_rows = to_rows(raw, source, columns, **reading)
    places = {prompt_key(row["prompt"]): place for row, (place, _) in reversed([*zip(given_rows, raw, strict=True)])}
    rows = _short_enough(given_rows, max_prompt_chars, source)
    given = None
    if raw_evaluation is not None:
        there = columns_of(raw_evaluation, f"{source} (evaluation)", **_as_in(columns, raw_evaluation, drop_columns))
        given = to_rows(raw_evaluation, f"{source} (evaluation)", there, **reading)
        places |= {prompt_key(row["prompt"]): place for row, (place, _) in zip(given, raw_evaluation, strict=True)}
        given = _short_enough(given, max_prompt_chars, f"{source} (evaluation)")
    answer = None
    if columns.answer:
        answer = judge_of(
            rows,
            given or [],
            source,
            match=match,
            extract=extract,
            normalise=normalise,
            percent=percent,
            units=units,
            choice_base=choice_base,
            options_column=options_column,
        )

    def opening(row: Row) -> str:
        return opening_key(row, system_prompt)

    evaluation = given if given is not None else _held_out(rows, eval_share, seed, opening)
    held_out = {opening(row) for row in evaluation}
    train = [row for row in rows if opening(row) not in held_out]
    if not train:
        raise ValueError(f"{source}: no prompts are left to train on, all {len(rows)} rows are evaluation prompts.")
    if given is not None and len(train) < len(rows):
        logger.warning("%s: %d rows dropped, they are evaluation prompts.", source, len(rows) - len(train))
    funcs, weights = [], []
    if pattern is not None and not columns.no_answer:
        funcs.append(regex_format(pattern, name="format"))
        weights.append(format_weight if columns.answer else 1.0)
    if answer is not None:
        funcs.append(answer)
        weights.append(1.0 - format_weight if pattern is not None else 1.0)
    texts = tuple([row for row in table if row.get("completion") is not None] for table in (train, evaluation))
    return Task(
        name=name,
        train=[_without(row, *LEARNT) for row in train],
        evaluation=[_without(row, *LEARNT) for row in evaluation],
        reward_funcs=funcs,
        reward_weights=weights,
        demonstrations=_demonstrations(texts[0]) if texts[0] else None,
        texts=texts if texts[0] else None,
        unrewarded=columns.no_answer,
        places=places,
        about=(
            *lines_about(raw[0], given_rows[0], columns),
            _split(train, evaluation, given is not None, eval_share, seed),
        ),
    )


def _as_in(columns: Columns, raw: Raw, drop: Sequence[str]) -> dict:
    """The settings under which evaluation rows are read: the columns of the training rows; completions may be missing."""
    names = {key for _, row in raw for key in row}
    completion = columns.completion if columns.completion and is_there([*names], columns.completion) else None
    return dict(
        prompt=columns.prompt or "prompt",
        messages=columns.messages,
        answer=columns.answer,
        completion=completion,
        drop=[name for name in drop if name in names],
    )


def _short_enough(rows: list[Row], longest: int | None, source: str) -> list[Row]:
    if longest is None:
        return rows
    kept = [row for row in rows if prompt_length(row["prompt"]) <= longest]
    if not kept:
        raise ValueError(f"{source}: task.max_prompt_chars={longest} leaves no row; the shortest prompt is longer.")
    if len(kept) < len(rows):
        logger.warning(
            "%s: %s of %s rows left out, their prompts have more than %s characters (task.max_prompt_chars).",
            *(source, f"{len(rows) - len(kept):,}", f"{len(rows):,}", f"{longest:,}"),
        )
    return kept


def _split(train: list[Row], evaluation: list[Row], is_given: bool, share: float, seed: int) -> str:
    how = "all rows that were given for it" if is_given else f"{share:g} of the distinct prompts, task.seed={seed}"
    return f"split    {len(train):,} rows to train on; {len(evaluation):,} held out ({how}); no prompt in both"


def _held_out(rows: list[Row], share: float, seed: int, opening: Callable[[Row], str]) -> list[Row]:
    """One row for each of the chosen prompts, in the file's order; at least one prompt stays on either side."""
    first = {opening(row): row for row in reversed(rows)}
    count = min(len(first) - 1, max(1, round(share * len(first)))) if share else 0
    ranked = sorted(first, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    chosen = set(ranked[:count])
    return [first[key] for key in dict.fromkeys(map(opening, rows)) if key in chosen]


def _demonstrations(rows: list[Row]) -> Callable[[int, int], list[Row]]:
    pool = [{key: row[key] for key in ("prompt", *LEARNT) if key in row} for row in rows]

    def demonstrations(count: int, seed: int) -> list[Row]:
        """Rounds over the training rows, each in a new order."""
        rng, chosen = random.Random(f"demonstrations {seed}"), []
        while len(chosen) < count:
            chosen += rng.sample(pool, len(pool))
        return chosen[:count]

    return demonstrations


def _without(row: Row, *columns: str) -> Row:
    return {key: value for key, value in row.items() if key not in columns}
