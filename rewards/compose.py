"""Rewards made of rewards: gate, clip, scale, a weighted sum, cosine by length.

A composition calls each of its functions once and logs their means as `rewards/<name>/mean`, like TRL does for a
function of its own, so nothing is hidden in the sum. It is async where one of its functions is. For a plain weighted
sum of all rewards, TRL's `reward_weights` (reward.weights in the config) is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rewards.composition import Composition, Reward, Scores, SpanComposition, finished, found
from rewards.guard import callable_name
from rewards.shape import UNITS, cosine
from rewards.text.completions import completion_text
from rewards.text.opened import openings_of
from rewards.text.spans import Span


def gate(
    reward: Reward, by: Reward, *, at_least: float = 1.0, otherwise: float = 0.0, name: str | None = None
) -> Reward:
    """`reward` where `by` is at least `at_least`, else `otherwise`; None where `by` is None, or the gate is open and
    `reward` is None. For instance: the answer counts only in the right format."""
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
        max_length: length, in `unit` ("tokens", "words", "characters"), from which the value stays where it is.
        right, wrong: value at length 0 and value at `max_length`.

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


class _WholeTurn(Composition):
    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> Scores:
        return super().__call__(prompts, _whole_turns(completions, columns), **columns)

    async def call_async(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> Scores:
        return await super().call_async(prompts, _whole_turns(completions, columns), **columns)

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
        return scores[0]


class _Gate(Composition):
    def __init__(self, reward: Reward, by: Reward, at_least: float, otherwise: float, name: str):
        super().__init__([reward, by], name)
        self.at_least, self.otherwise = at_least, otherwise

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
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

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
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

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
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

    def combine(self, scores: list[Scores], columns: dict[str, Any]) -> Scores:
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
