"""A table of questions -> a task: which columns, how answers are found and judged, what is held out."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence

from rewards.format import regex_format
from tasks.base import Row, Task, prompt_key
from tasks.columns import prompt_of, to_rows
from tasks.judge import judge_of
from userio.read import Raw

logger = logging.getLogger(__name__)


def table_task(
    source: str,
    raw: Raw,
    raw_evaluation: Raw | None,
    *,
    name: str,
    prompt_column: str = "prompt",
    answer_column: str | None = "answer",
    completion_column: str | None = None,
    eval_share: float = 0.1,
    chat: bool | None = None,
    system_prompt: str | None = None,
    answer_marker: str | None = None,
    drop_columns: Sequence[str] = (),
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
            of the prompt, so that the choice does not move when rows are added or reordered.
        eval_share: share of the distinct prompts that is held out where there are no evaluation rows, chosen by a hash.
        name: of the task.
        prompt_column: strings, or lists of chat messages ({"role": ..., "content": ...}).
        answer_column: the reference answer, becomes the column "answer" and keeps its type (tasks/references.py); a list
            means any of these; "answer.aliases" is a key of an object. None: no answer reward.
        completion_column: texts to imitate, for the warm start of model=embedded and for train_sft.py; None: none.
        chat: True wraps string prompts as a user message. None: only if there is a system prompt.
        system_prompt: first message of every chat prompt that has no system message.
        answer_marker: keep what follows it in the answer column (GSM8K: "####").
        drop_columns: columns to leave out, such as one whose name has a meaning for TRL.
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

    def rows_of(raw: Raw) -> list[Row]:
        return to_rows(
            raw,
            source,
            prompt=prompt_of(chat=bool(chat or (chat is None and system_prompt)), system_prompt=system_prompt),
            columns={"prompt": prompt_column, "answer": answer_column, "completion": completion_column},
            answer_marker=answer_marker,
            drop=list(drop_columns),
        )

    rows = rows_of(raw)
    given = rows_of(raw_evaluation) if raw_evaluation is not None else None
    answer = None
    if answer_column:
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
    evaluation = given if given is not None else _held_out(rows, eval_share, seed)
    held_out = {prompt_key(row["prompt"]) for row in evaluation}
    train = [row for row in rows if prompt_key(row["prompt"]) not in held_out]
    if not train:
        raise ValueError(f"{source}: no prompts are left to train on, all {len(rows)} rows are evaluation prompts.")
    if raw_evaluation is not None and len(train) < len(rows):
        logger.warning("%s: %d rows dropped, they are evaluation prompts.", source, len(rows) - len(train))
    funcs, weights = [], []
    if pattern is not None:
        funcs.append(regex_format(pattern, name="format"))
        weights.append(format_weight if answer_column else 1.0)
    if answer is not None:
        funcs.append(answer)
        weights.append(1.0 - format_weight if pattern is not None else 1.0)
    return Task(
        name=name,
        train=[_without(row, "completion") for row in train],
        evaluation=[_without(row, "completion") for row in evaluation],
        reward_funcs=funcs,
        reward_weights=weights,
        demonstrations=_demonstrations(train) if completion_column else None,
    )


def _held_out(rows: list[Row], share: float, seed: int) -> list[Row]:
    """One row for each of the chosen prompts, in the file's order; at least one prompt stays on either side."""
    first = {prompt_key(row["prompt"]): row for row in reversed(rows)}
    count = min(len(first) - 1, max(1, round(share * len(first)))) if share else 0
    ranked = sorted(first, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    chosen = set(ranked[:count])
    return [first[key] for key in dict.fromkeys(prompt_key(row["prompt"]) for row in rows) if key in chosen]


def _demonstrations(rows: list[Row]) -> Callable[[int, int], list[Row]]:
    pool = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]

    def demonstrations(count: int, seed: int) -> list[Row]:
        """Rounds over the training rows, each in a new order."""
        rng, chosen = random.Random(f"demonstrations {seed}"), []
        while len(chosen) < count:
            chosen += rng.sample(pool, len(pool))
        return chosen[:count]

    return demonstrations


def _without(row: Row, column: str) -> Row:
    return {key: value for key, value in row.items() if key != column}
