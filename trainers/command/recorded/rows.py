"""Completions that are there already, whatever holds them: a table of the user's, what eval_model.py or vLLM left, a run's records.

All become rows of one kind: "prompt", "completion", and a key for each other column. What is known of a completion besides its
text (its tokens, whether it ended, what it earned) has names that trainers/command/recorded/said.py reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from configs.compose import ConfigError
from rewards.text.completions import completion_text
from tasks.base import Row
from tasks.cells import cell_of, is_there
from trainers.evaluation.completions import Completion
from trainers.run.files import RECORDS
from trainers.run.records import READABLE, REQUIRED, record_files
from userio.read import nearest, read_rows

NAMES = ("completion", "text", "completions")  # of the column with the completions, where it is not named
TOKEN_IDS = ("token_ids", "completion_ids", "completion_token_ids", "output_token_ids")
LOGPS = ("sampler_logps", "logprobs", "logps", "sampling_logps", "token_logprobs")
ENDED, TRUNCATED, REASON, STOPPED_BY = "ended", "truncated", "finish_reason", "stop_reason"
REWARD, OF_FUNCTION, WEIGHTS = "reward", "reward/", "reward_weights"
_OF_ONE = (*TOKEN_IDS, *LOGPS, ENDED, TRUNCATED, REASON, STOPPED_BY, REWARD)  # lists of them go with a list of texts
_OF_EVALUATION = {field.name for field in fields(Completion)}
_EVALUATED = {
    "prompt",
    "sample",
    "text",
    "tokens",
    "ended",
    "scores",
}  # in every row of an evaluation, of older ones too
_ANSWERS = ("outputs", "choices")  # of vLLM, and of servers that speak like OpenAI's
_OF_ENGINE = ("prompt_token_ids", "prompt_logprobs", "request_id", "metrics", "finished", "lora_request", "index",
              "encoder_prompt", "encoder_prompt_token_ids", "num_cached_tokens", "cumulative_logprob")  # fmt: skip
FROM_TASK = "columns of the task's row"  # as a record has them: shortened, so that the task's own are better
Placed = list[tuple[str, Row]]


def recorded_rows(path: str | Path, setting: str, column: str | None = None, ids_suffice: bool = False) -> Placed:
    """(place, row) of each completion.

    Args:
        path: a table; a run's folder, whose newest record is taken, its folder of records, or one of them.
        setting: what the path was given as, for messages.
        column: of a table, where its completions are, or lists of them; dots lead inside; None: one of `NAMES`.
        ids_suffice: a row with tokens needs no text, and has None in its place.

    Raises:
        ValueError: what `read_rows` says; a folder without records; a row without a completion.
    """
    found: Placed = []
    for place, row in read_rows(file := _file(Path(path).expanduser(), setting), setting):
        found += [(place, one) for one in _plain(place, row, column, ids_suffice, file)]
    return found


def _file(path: Path, setting: str) -> Path:
    if not path.is_dir():
        return path
    files = record_files(path / RECORDS) or record_files(path)
    if not files:
        raise ConfigError(
            f"{setting}={path} is a folder without records of a run. Train with record.every=10, or name a file of completions."
        )
    return files[-1]


def _plain(place: str, row: Row, column: str | None, ids_suffice: bool, file: Path) -> Iterator[Row]:
    if column is None and _EVALUATED <= set(row) <= _OF_EVALUATION:
        if ids_suffice and row.get("messages"):
            raise ConfigError(f"{place}: {CONVERSATION}")
        yield _of_evaluation(row)
    elif column is None and set(REQUIRED) <= set(row):
        yield _of_record(place, row, file)
    elif column is None and (key := next((key for key in _ANSWERS if _are_answers(row.get(key))), None)):
        for answer in row[key]:
            yield from _with_completion(place, _of_engine(row, key, answer), None, ids_suffice)
    else:
        yield from _with_completion(place, row, column, ids_suffice)


def rows_with_completion(place: str, row: Row, column: str | None) -> Iterator[Row]:
    """The row of a table with its completion under that name; one for each where it has a list of texts.

    Raises:
        ConfigError: it has none, or something that is none.
    """
    return _with_completion(place, row, column, False)


def _with_completion(place: str, row: Row, wanted: str | None, ids_suffice: bool) -> Iterator[Row]:
    name = wanted or next((name for name in NAMES if name in row), None)
    has_ids = ids_suffice and any(row.get(key) is not None for key in TOKEN_IDS)
    if wanted is None and has_ids and (name is None or row[name] is None):
        yield {**{key: value for key, value in row.items() if key != name}, "completion": None}
        return
    if name is None or not is_there(list(row), name):
        names = ", ".join(row) or "nothing"
        missing = f"no column {wanted!r}" if wanted else 'no column "completion" (nor "text")'
        near = nearest(wanted or "completion", set(row) - {"prompt"})
        raise ConfigError(f"{place}: {missing}; there is: {names}.{near} Set completion_column=... to the right one.")
    found = cell_of(row, name)
    several = isinstance(found, list) and bool(found) and all(isinstance(one, str) for one in found)
    others = {key: value for key, value in row.items() if key != name}
    for number, completion in enumerate(found if several else [found]):
        try:
            completion_text(completion)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
        own = {key: _own(key, value, number, len(found)) for key, value in others.items()} if several else others
        yield {**own, "completion": completion}


def _own(key: str, value: Any, number: int, count: int) -> Any:
    """Of a column beside a list of texts: the part of one text, where there is one for each."""
    is_list = isinstance(value, list) and len(value) == count and (key in _OF_ONE or key.startswith(OF_FUNCTION))
    if is_list and key in (*TOKEN_IDS, *LOGPS) and not all(isinstance(one, list) for one in value):
        return value
    return value[number] if is_list else value


def _of_evaluation(row: Row) -> Row:
    """By eval_model.py; all that the rewards read is told by the task. Its `answer` is what was read in the text."""
    scores = {f"{OF_FUNCTION}{name}": score for name, score in (row["scores"] or {}).items()}
    return {
        "prompt": row["prompt"],
        "completion": row["text"],
        ENDED: row["ended"],
        REWARD: row.get("reward"),
        **scores,
    }


def _of_record(place: str, row: Row, file: Path) -> Row:
    _check_format(file)
    learns = row.get("learns")
    if learns and any(learns) and not all(learns):
        raise ConfigError(f"{place}: {CONVERSATION}")
    prompt = json.loads(row["messages"]) if row.get("messages") else row.get("prompt")
    ended = None if row.get(TRUNCATED) is None else not row[TRUNCATED]
    tokens = row["tokens"] or []
    columns = json.loads(row["columns"]) if row.get("columns") else {}
    rewards = {key: value for key, value in row.items() if key == REWARD or key.startswith(OF_FUNCTION)}
    return {
        FROM_TASK: columns,
        "prompt": prompt,
        "completion": "".join(tokens[:-1] if ended else tokens),
        TOKEN_IDS[0]: row.get(TOKEN_IDS[0]),
        ENDED: ended,
        LOGPS[0]: row.get(LOGPS[0]) or row.get("policy_logps"),
        **rewards,
        WEIGHTS: row.get(WEIGHTS),
    }


CONVERSATION = (
    "a conversation with tools or of several turns. What an environment answered is in no recorded completion that TRL could learn "
    "from, so only single answers are audited from a file. Leave completions= out: then the conversations are played."
)


def _check_format(file: Path) -> None:
    import pyarrow.parquet  # comes with `datasets`; slow to import, so only where it is needed

    said = (pyarrow.parquet.read_schema(file).metadata or {}).get(b"apportion_record_format", b"1")
    if said not in {str(number).encode() for number in READABLE}:
        raise ConfigError(f"{file} is a record of format {said.decode(errors='replace')}. A newer Apportion reads it.")


def _are_answers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _of_engine(row: Row, key: str, answer: Mapping[str, Any]) -> Row:
    """One answer of several, beside what the row says of its prompt."""
    answer = {name: value for name, value in answer.items() if name not in _OF_ENGINE}
    if isinstance(message := answer.pop("message", None), Mapping):
        answer["completion"] = [dict(message)]
    kept = {name: value for name, value in row.items() if name != key and name not in _OF_ENGINE}
    return {**kept, **answer}
