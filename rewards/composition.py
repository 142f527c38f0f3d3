"""The machinery of composed rewards: call the inner functions, log each, combine."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from rewards.guard import callable_name, guard_of, is_async
from rewards.load import check_signature, load_reward
from rewards.text.completions import completion_text
from rewards.text.spans import Span

Reward = Callable[..., Any]
Scores = list  # of float | None, one per completion


def parts_of(reward: Any, into_whole_turns: bool = True) -> list[Any]:
    """The functions that a reward is made of, without their guards."""
    reward = unguarded(reward)
    inner = getattr(reward, "rewards", None)
    if not isinstance(inner, list):
        return [reward]
    if getattr(reward, "whole_turn", False) and not into_whole_turns:
        return []
    return [part for each in inner for part in parts_of(each, into_whole_turns)]


def unguarded(reward: Any) -> Any:
    """The function behind a guard, and behind a partial that binds nothing."""
    guard = guard_of(reward)
    reward = guard.func if guard is not None else reward
    while isinstance(reward, functools.partial) and not reward.args and not reward.keywords:
        reward = reward.func
    return reward


class Composition:
    """A reward made of others. A subclass writes `combine`; a sync instance is itself the reward, see `finished`."""

    __name__: str

    def __init__(self, rewards: list[Reward], name: str):
        for reward in rewards:
            check_signature(reward, callable_name(reward))
        self.rewards, self.__name__ = rewards, name

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
        """Scores of each inner function, and the arguments of the call -> the scores of the composition."""
        raise NotImplementedError

    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> Scores:
        columns = _arguments(prompts, completions, columns)
        return self._combined([list(reward(**columns)) for reward in self.rewards], columns)

    async def call_async(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> Scores:
        """The same where some of the functions are async; those run at the same time."""
        columns = _arguments(prompts, completions, columns)

        async def one(reward: Reward) -> Scores:
            result = reward(**columns)
            return list(await result if inspect.isawaitable(result) else result)

        return self._combined(list(await asyncio.gather(*map(one, self.rewards))), columns)

    def _combined(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
        rows = len(columns["completions"])
        for reward, column in zip(self.rewards, scores, strict=True):
            if len(column) != rows:
                raise ValueError(f"Reward {callable_name(reward)!r} returned {len(column)} results for {rows} rows.")
            if (log_metric := columns.get("log_metric")) is not None:
                known = [score for score in column if score is not None]
                log_metric(f"rewards/{callable_name(reward)}/mean", sum(known) / len(known) if known else math.nan)
        return self.combine(scores, columns)


class SpanComposition(Composition):
    """A composition that can say where its reward was earned. A subclass writes `combine_spans`. Inner functions
    without spans count at the end of the text."""

    def combine_spans(self, spans: list[list[Span]]) -> list[Span]:
        """Spans of each inner function on one row, scaled by nothing yet -> spans of the composition."""
        raise NotImplementedError

    def spans(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list[list[Span] | None]:
        """One list per completion; None for a row that no inner function could score."""
        columns = _arguments(prompts, completions, columns)
        columns.pop("log_metric", None)
        texts = [completion_text(completion) for completion in completions]
        inner = [_spans_of(reward, columns, texts) for reward in self.rewards]
        rows = zip(*inner, strict=True)
        return [
            None if all(part is None for part in row) else self.combine_spans([p or [] for p in row]) for row in rows
        ]


def found(reward: Reward | str) -> Reward:
    """The function itself; a name ("my_rewards.py:polite", "package.module.name") is looked up."""
    return load_reward(reward) if isinstance(reward, str) else reward


def finished(composition: Composition) -> Reward:
    """The composition itself, or a plain async function round it where one of its functions is async."""
    if not any(map(is_async, composition.rewards)):
        return composition

    async def reward(prompts: list | None = None, completions: Sequence = (), **columns: Any) -> Scores:
        return await composition.call_async(prompts, completions, **columns)

    reward.__name__ = reward.__qualname__ = composition.__name__
    reward.rewards = composition.rewards  # type: ignore[attr-defined]
    return reward


def _arguments(prompts: list | None, completions: Sequence, columns: dict[str, Any]) -> dict[str, Any]:
    return {**({} if prompts is None else {"prompts": prompts}), "completions": completions, **columns}


def _spans_of(reward: Reward, columns: dict[str, Any], texts: list[str]) -> list[list[Span] | None]:
    method = getattr(reward, "spans", None)
    found: list[list[Span] | None] = method(**columns) if method is not None else [None] * len(texts)
    if all(spans is not None for spans in found):
        return found
    scores = reward(**columns)
    return [
        spans if spans is not None or score is None else [Span(len(text), len(text), float(score))]
        for spans, score, text in zip(found, scores, texts, strict=True)
    ]
