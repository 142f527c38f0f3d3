"""Rewards made of rewards: gate, clip, scale, a weighted sum, cosine by length.

A composition calls each of its functions once and logs their means as `rewards/<name>/mean`, like TRL does for a
function of its own, so nothing is hidden in the sum. It is async where one of its functions is. For a plain weighted
sum of all rewards, TRL's `reward_weights` (reward.weights in the config) is enough.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from rewards.guard import callable_name, guard_of, is_async
from rewards.load import check_signature, load_reward
from rewards.shape import UNITS, cosine
from rewards.text.completions import completion_text
from rewards.text.opened import openings_of
from rewards.text.spans import Span

Reward = Callable[..., Any]
RowScores = list  # of float | None, one per completion


def gate(
    reward: Reward, by: Reward, *, at_least: float = 1.0, otherwise: float = 0.0, name: str | None = None
) -> Reward:
    """`reward` where `by` is at least `at_least`, else `otherwise`; None where `by` is None, or the gate is open and
    `reward` is None. For instance: the answer counts only in the right format.

    Args:
        reward: what counts where the gate is open.
        by: the reward that opens it.
        at_least: from which value of `by` on it is open.
        otherwise: the value where it is shut.
        name: the name in the logs; None: made of both names.
    """
    reward, by = found(reward), found(by)
    return finished(_Gate(reward, by, at_least, otherwise, name or f"{callable_name(reward)}_if_{callable_name(by)}"))


def clip(reward: Reward, *, low: float = -math.inf, high: float = math.inf, name: str | None = None) -> Reward:
    """`reward` held between `low` and `high`.

    Raises:
        ValueError: not low <= high.
    """
    if not low <= high:
        raise ValueError(f"clip needs low <= high, got {low} and {high}.")
    reward = found(reward)
    return finished(_Clip(reward, low, high, name or f"{callable_name(reward)}_clipped"))


def scale(reward: Reward, *, factor: float = 1.0, offset: float = 0.0, name: str | None = None) -> Reward:
    """`factor * reward + offset`.

    Raises:
        ValueError: not finite.
    """
    if not (math.isfinite(factor) and math.isfinite(offset)):
        raise ValueError(f"scale needs finite numbers, got factor={factor}, offset={offset}.")
    reward = found(reward)
    return finished(_Scale(reward, factor, offset, name or f"{callable_name(reward)}_scaled"))


def weighted_sum(rewards: Sequence[Reward], weights: Sequence[float] | None = None, *, name: str = "sum") -> Reward:
    """The weighted sum of the rewards that could score the row; None where none could.

    Raises:
        ValueError: no rewards, or not one finite weight each.
    """
    factors = [1.0] * len(rewards) if weights is None else [float(weight) for weight in weights]
    if not rewards or len(factors) != len(rewards) or not all(map(math.isfinite, factors)):
        raise ValueError(f"{len(rewards)} rewards and {len(factors)} weights; give one finite weight for each.")
    return finished(_WeightedSum([found(reward) for reward in rewards], factors, name))


def cosine_by_length(
    reward: Reward,
    max_length: int,
    *,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-1.0, -0.5),
    at_least: float = 0.5,
    unit: str = "tokens",
    name: str | None = None,
) -> Reward:
    """Right answers earn more when short, wrong ones lose less when long; None where `reward` is None.

    "Demystifying long chain-of-thought reasoning", arXiv 2502.03373, appendix C.1; with rewards.maths.math_equal equal
    to TRL's `get_cosine_scaled_reward`.

    Args:
        reward: says what is right: at least `at_least`.
        max_length: length from which the value stays where it is.
        right, wrong: value at length 0 and value at `max_length`.
        at_least: the value of `reward` from which an answer is right.
        unit: of lengths: "tokens", "words" or "characters".
        name: the name in the logs; None: made of the name of `reward`.

    Range: between the smallest and the largest of the four values.

    Raises:
        ValueError: max_length not positive, an unknown unit.
    """
    if max_length < 1 or unit not in UNITS:
        raise ValueError(f"cosine_by_length needs max_length >= 1 and a unit among {', '.join(UNITS)}.")
    reward = found(reward)
    name = name or f"{callable_name(reward)}_by_length"
    return finished(_CosineByLength(reward, max_length, tuple(right), tuple(wrong), at_least, unit, name))


def whole_turn(reward: Reward, *, name: str | None = None) -> Reward:
    """`reward`, which gets completions together with what their prompt has opened (rewards/text/opened.py): for a function that
    looks for `<think>` and is no `TextReward`."""
    reward = found(reward)
    whole = finished(_WholeTurn([reward], name or callable_name(reward)))
    whole.whole_turn = True  # type: ignore[attr-defined]
    return whole


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

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        """Scores of each inner function, and the arguments of the call -> the scores of the composition."""
        raise NotImplementedError

    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> RowScores:
        columns = _arguments(prompts, completions, columns)
        return self._combined([list(reward(**columns)) for reward in self.rewards], columns)

    async def call_async(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> RowScores:
        """The same where some of the functions are async; those run at the same time."""
        columns = _arguments(prompts, completions, columns)

        async def one(reward: Reward) -> RowScores:
            result = reward(**columns)
            return list(await result if inspect.isawaitable(result) else result)

        return self._combined(list(await asyncio.gather(*map(one, self.rewards))), columns)

    def _combined(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
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

    async def reward(prompts: list | None = None, completions: Sequence = (), **columns: Any) -> RowScores:
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


class _WholeTurn(Composition):
    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> RowScores:
        return super().__call__(prompts, _whole_turns(completions, columns), **columns)

    async def call_async(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> RowScores:
        return await super().call_async(prompts, _whole_turns(completions, columns), **columns)

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        return scores[0]


class _Gate(Composition):
    def __init__(self, reward: Reward, by: Reward, at_least: float, otherwise: float, name: str):
        super().__init__([reward, by], name)
        self.at_least, self.otherwise = at_least, otherwise

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        return [
            None if test is None else (score if test >= self.at_least else self.otherwise)
            for score, test in zip(*scores, strict=True)
        ]


class _Pointwise(SpanComposition):
    """A function of one reward. Its spans are the steps of the function along the running sum of the inner spans."""

    def __init__(self, reward: Reward, name: str):
        super().__init__([reward], name)

    def value(self, score: float) -> float:
        raise NotImplementedError

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        return [None if score is None else self.value(score) for score in scores[0]]

    def combine_spans(self, spans: list[list[Span]]) -> list[Span]:
        total, steps = 0.0, [Span(0, 0, self.value(0.0))]
        for span in sorted(spans[0], key=lambda span: (span.end, span.start)):
            steps.append(span._replace(value=self.value(total + span.value) - self.value(total)))
            total += span.value
        return [span for span in steps if span.value]


class _Clip(_Pointwise):
    def __init__(self, reward: Reward, low: float, high: float, name: str):
        super().__init__(reward, name)
        self.low, self.high = low, high

    def value(self, score: float) -> float:
        return min(max(score, self.low), self.high)


class _Scale(_Pointwise):
    def __init__(self, reward: Reward, factor: float, offset: float, name: str):
        super().__init__(reward, name)
        self.factor, self.offset = factor, offset

    def value(self, score: float) -> float:
        return self.factor * score + self.offset


class _WeightedSum(SpanComposition):
    def __init__(self, rewards: list[Reward], factors: list[float], name: str):
        super().__init__(rewards, name)
        self.factors = factors

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        return [_weighted(row, self.factors) for row in zip(*scores, strict=True)]

    def combine_spans(self, spans: list[list[Span]]) -> list[Span]:
        return [
            span._replace(value=factor * span.value)
            for factor, part in zip(self.factors, spans, strict=True)
            for span in part
        ]


class _CosineByLength(Composition):
    def __init__(
        self, reward: Reward, max_length: int, right: tuple, wrong: tuple, at_least: float, unit: str, name: str
    ):
        super().__init__([reward], name)
        self.max_length, self.right, self.wrong, self.at_least, self.unit = max_length, right, wrong, at_least, unit

    def combine(self, scores: list[RowScores], columns: dict[str, Any]) -> RowScores:
        return [
            None if score is None else cosine(length / self.max_length, *self._ends(score))
            for score, length in zip(scores[0], self._lengths(columns), strict=True)
        ]

    def _ends(self, score: float) -> tuple[float, float]:
        return self.right if score >= self.at_least else self.wrong

    def _lengths(self, columns: dict[str, Any]) -> list[int]:
        if self.unit == "tokens":
            return [len(ids) for ids in columns["completion_ids"]]
        measure: Callable[[str], int] = (lambda text: len(text.split())) if self.unit == "words" else len
        return [measure(completion_text(completion)) for completion in columns["completions"]]


def _whole_turns(completions: Sequence, columns: dict[str, Any]) -> list:
    opened = openings_of(columns, len(completions))
    return [_behind(text, completion) for text, completion in zip(opened, completions, strict=True)]


def _behind(opened: str, completion: Any) -> Any:
    """The completion in its own shape, with `opened` before the text that a reward reads of it."""
    if not opened or isinstance(completion, str):
        return opened + completion if opened else completion
    places = [i for i, message in enumerate(completion) if message.get("role") == "assistant"]
    place = places[-1] if places else len(completion) - 1
    message = {**completion[place], "content": opened + completion_text([completion[place]])}
    return [*completion[:place], message, *completion[place + 1 :]]


def _weighted(row: Sequence[float | None], factors: list[float]) -> float | None:
    known = [factor * score for factor, score in zip(factors, row, strict=True) if score is not None]
    return sum(known) if known else None
