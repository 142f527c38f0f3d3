"""Conversations by turn: what the policy said and called in each, and how a reward says what a turn earned.

A reward function, or an object with one, may have a companion method

    turn_rewards(prompts, completions, **columns) -> one list of numbers per completion, or {turn: number}, or None

that says what was earned in each turn. Turns are numbered from 0 by the assistant messages of the completion. What it does not
place (the reward less their sum) falls on the last turn, so a row's total stays what the function scored.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rewards.text.completions import content_text
from rewards.text.spans import Span


class Call(NamedTuple):
    """One tool call of the policy; `arguments` are a mapping where they could be parsed, else what stood there."""

    name: str
    arguments: Any


class Turn(NamedTuple):
    """One assistant message of a completion, with the answers of the tools that it called."""

    text: str
    calls: tuple[Call, ...]
    answers: tuple[str, ...]


def turns_of(completion: Any) -> list[Turn]:
    """The turns of a completion, in order; a plain text is one turn.

    Raises:
        ValueError: neither a text nor a list of message mappings.
    """
    if isinstance(completion, str):
        return [Turn(completion, (), ())]
    if not isinstance(completion, list) or not all(isinstance(message, Mapping) for message in completion):
        raise ValueError(f"A completion must be a string or a list of messages, got {type(completion).__name__}.")
    turns: list[Turn] = []
    for message in completion:
        if message.get("role") == "assistant":
            calls = tuple(_call(call) for call in message.get("tool_calls") or ())
            turns.append(Turn(content_text(message.get("content")), calls, ()))
        elif turns:
            turns[-1] = turns[-1]._replace(answers=(*turns[-1].answers, content_text(message.get("content"))))
    return turns


def at_turn(turn: int, value: float) -> Span:
    """The value was earned by turn number `turn` as a whole, and is decided by its last token."""
    return Span(sys.maxsize, sys.maxsize, value, turn)


def turn_spans(values: Any, turns: int) -> list[Span] | None:
    """What a `turn_rewards` method said of one completion, as spans; None: it does not say.

    Raises:
        ValueError: more values than turns, a turn that is not there, or a value that is no finite number.
    """
    if values is None:
        return None
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(values, Mapping):
        pairs = values.items()
    elif isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"turn_rewards must give a list of numbers or {{turn: number}}, got {values!r:.80}.")
    else:
        pairs = enumerate(values)
    spans = []
    for turn, value in pairs:
        if isinstance(turn, bool) or not isinstance(turn, int) or not 0 <= turn < turns:
            raise ValueError(f"turn_rewards names turn {turn!r} of a completion that has {turns}.")
        number = 0.0 if value is None else float(value)
        if not math.isfinite(number):
            raise ValueError(f"turn_rewards gives turn {turn} {value!r}, which is no finite number.")
        spans.append(at_turn(turn, number))
    return spans


def _call(call: Any) -> Call:
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    return Call(str(function.get("name", "")), arguments)
