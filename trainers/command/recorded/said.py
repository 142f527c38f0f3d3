"""What a row says of its completion besides its text: tokens, how it ended, the log-probs it was drawn with, what it earned."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.compose import ConfigError
from tasks.base import Row
from trainers.command.recorded.rows import (
    CONVERSATION,
    ENDED,
    LOGPS,
    OF_FUNCTION,
    REASON,
    REWARD,
    STOPPED_BY,
    TOKEN_IDS,
    TRUNCATED,
    WEIGHTS,
)

_REWARDS = ("rewards", "scores")  # objects of them, by function


@dataclass(frozen=True)
class Said:
    """Args:
    place: of the row, for messages.
    text: None: it is told by the tokens.
    token_ids: as the policy drew them, the end with them; None: not known.
    ended: whether it ended by itself; None: it is not said.
    logps: of the tokens, under the policy that drew them; NaN where one is not known. None: not known.
    rewards: by function; the weighted sum as "reward". None: no score.
    weights: of the functions, in the order of `rewards`; None: not said.
    """

    place: str
    text: str | None
    token_ids: list[int] | None = None
    ended: bool | None = None
    logps: list[float] | None = None
    rewards: dict[str, float | None] = field(default_factory=dict)
    weights: list[float] | None = None


def said_in(place: str, row: Row, with_rewards: bool = False) -> tuple[Said, Row]:
    """(what is said of the completion, the row without it). with_rewards: they are wanted; else they stay columns like others.

    Raises:
        ConfigError: with the place and the column that holds something else than its name says.
    """
    row = dict(row)
    text = _text(place, row.pop("completion"))
    ids = _first(row, TOKEN_IDS)
    logps = _first(row, LOGPS)
    numbers = None if ids is None else _ids(place, ids)
    if text is None and numbers is None:
        raise ConfigError(f"{place}: a completion is null, and there are no token_ids. Leave the row out.")
    ended = _ended(place, {name: row.pop(name, None) for name in (ENDED, TRUNCATED, REASON, STOPPED_BY)})
    if ended is False and (numbers == [] or (numbers is None and text == "")):
        raise ConfigError(f"{place}: an empty completion that did not end: nothing was drawn. Leave the row out.")
    if ended is None and numbers == []:
        raise ConfigError(f"{place}: no tokens. Leave the row out, or say that it ended: ended=true.")
    weights = _object(row.pop(WEIGHTS, None))
    rewards = _rewards(place, row) if with_rewards else {}
    return Said(place, text, numbers, ended, _logps(logps, numbers), rewards, weights), row


def _first(row: Row, names: tuple[str, ...]) -> Any:
    """Of the first of these columns that holds something; all of them are taken out."""
    held = [_object(row.pop(name)) for name in names if name in row]
    return next((value for value in held if value is not None), None)


def _object(value: Any) -> Any:
    """Of a cell of CSV: what its JSON means."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value or None


def _text(place: str, completion: Any) -> str | None:
    if completion is None or isinstance(completion, str):
        return completion
    message = completion[0] if isinstance(completion, list) and len(completion) == 1 else completion
    single = isinstance(message, Mapping) and message.get("role", "assistant") == "assistant"
    if not single or message.get("tool_calls"):
        raise ConfigError(f"{place}: {CONVERSATION}")
    if not isinstance(message.get("content"), str):
        raise ConfigError(f"{place}: the content of the answer is no text. Write it as one, or give its token_ids.")
    return message["content"]


def _ids(place: str, given: Any) -> list[int]:
    if not isinstance(given, list) or not all(_is_whole(one) for one in given):
        raise ConfigError(
            f"{place}: token_ids are a list of whole numbers from 0 on, got {given!r:.100}. Without the column its text is tokenised."
        )
    return [int(one) for one in given]


def _is_whole(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and one >= 0 and float(one).is_integer()


def _ended(place: str, given: Mapping[str, Any]) -> bool | None:
    if isinstance(given[STOPPED_BY], str) and given[STOPPED_BY]:
        return False  # at a text that it was told to stop at: the policy would have gone on
    for name, turned in ((ENDED, False), (TRUNCATED, True)):
        value = given[name]
        value = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower(), value)
        if value is not None and value != "" and value == value:
            if not isinstance(value, bool):
                raise ConfigError(f"{place}: {name} is true or false, got {value!r:.100}.")
            return value is not turned
    reason = str(given[REASON] or "").lower()
    return {"length": False, "max_tokens": False, "stop": True, "eos": True, "end_turn": True}.get(reason)


def _logps(given: Any, ids: list[int] | None) -> list[float] | None:
    """Of a list of numbers, or of what vLLM and servers like OpenAI's write; None of what is not understood."""
    if isinstance(given, Mapping):
        given = given.get("token_logprobs", given.get("content"))
    if not isinstance(given, list):
        return None
    names = [None] * len(given) if ids is None or len(ids) != len(given) else [str(one) for one in ids]
    return [_logp(one, name) for one, name in zip(given, names, strict=True)]


def _logp(one: Any, token: str | None) -> float:
    """Of the token that was drawn: of several it is told by its number, else it stands first."""
    if isinstance(one, list) and one:
        one = one[0]
    if isinstance(one, Mapping):
        several = {str(key): value for key, value in one.items() if isinstance(value, int | float | Mapping)}
        if "logprob" not in several:
            one = several.get(token or "", next(iter(several.values()), None))
        one = one.get("logprob") if isinstance(one, Mapping) else one
    is_number = isinstance(one, int | float) and not isinstance(one, bool) and -math.inf < one <= 1e-3
    return float(one) if is_number else math.nan


def _rewards(place: str, row: Row) -> dict[str, float | None]:
    """By function, and their sum as "reward"; taken out of the row where they are all that the column can be."""
    found = {name.removeprefix(OF_FUNCTION): row.pop(name) for name in list(row) if name.startswith(OF_FUNCTION)}
    for name in _REWARDS:
        if isinstance(value := _object(row.get(name)), Mapping) and not found:
            found = dict(value)
    if REWARD in row:
        found[REWARD] = row.pop(REWARD)
    return {str(name): _score(place, name, value) for name, value in found.items()}


def _score(place: str, name: str, value: Any) -> float | None:
    if value is None or value == "" or value != value:
        return None
    try:
        number = math.nan if isinstance(value, bool | list | dict) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) and not isinstance(value, bool):
        raise ConfigError(f"{place}: the reward {name!r} is no number: {value!r:.100}.")
    return float(value)
