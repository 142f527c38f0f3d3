"""Running sums, thought aloud: the default task.

    prompt       3+5+2=
    completion   <think>3+5=8 8+2=10</think><answer>10</answer>

Each running sum is written as an addition of two numbers that stand side by side, which a small decoder learns within
seconds (bare running sums, "3 8 10", it does not: after the same warm start its best guess is right on 81 % of held-out
prompts instead of 99 %, and GRPO has nothing to sharpen). Thinking is optional to the format but the sum is easier
found with it, so good completions have many lengths. The demonstrations are wrong on purpose (`Noise`): a model that
imitates them starts at a reward of about 0.3 and holds, in its own distribution, everything that GRPO has to sharpen.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import accumulate

from rewards.accuracy import exact_match
from rewards.extract import in_tag
from rewards.format import regex_format
from tasks.base import Row, Task

DIGITS = tuple("0123456789")
OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
TAGS = (OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER)
VOCABULARY = (*DIGITS, "+", "=", " ", *TAGS)
PATTERN = r"<think>[0-9+= ]*</think><answer>[0-9]+</answer>"


@dataclass(frozen=True)
class Noise:
    """How good the demonstrations are that the embedded model starts from.

    Raises:
        ValueError: an unknown name, or not a probability.
    """

    p_format: float = 0.5
    """Probability that all four tags stand where they should; else one of them is missing or doubled."""
    p_step: float = 0.8
    """Probability that one addition is right; a wrong one gives any number up to the largest sum of that many terms, and
    its error is carried on."""
    p_think: float = 0.7
    """Probability that the running sums are written out; else `<think></think>` stays empty."""

    @classmethod
    def of(cls, given: Noise | Mapping[str, float]) -> Noise:
        if isinstance(given, cls):
            return given
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise ValueError(f"task.noise.{key} is no setting; there is {', '.join(known)}.")
        return cls(**given)

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"noise.{field.name} must lie in [0, 1], got {getattr(self, field.name)}.")


# Prompts that no training row or demonstration shows, however few of them are evaluated on: a smaller evaluation must not
# make other data, nor another warm-started model.
RESERVED = 256


def chain(
    n_train: int = 2048,
    n_eval: int = 256,
    terms: tuple[int, int] = (2, 5),
    noise: Noise | Mapping[str, float] | None = None,
    seed: int = 0,
) -> Task:
    """Sums of `terms[0]` to `terms[1]` one-digit numbers (1 to 9); rewards 0.2 format + 0.8 right answer.

    Args:
        n_train: rows to train on; they may repeat a prompt (there are only 81 with two terms).
        n_eval: rows held out: distinct prompts, spread evenly over the numbers of terms as far as at most a fifth of the prompts
            of one length are used, and never in the training rows or demonstrations (nor are the 256 of the default, when
            fewer are asked for).
        terms: fewest and most terms.
        noise: how good the demonstrations are that the embedded model starts from; None: as `Noise` says.
        seed: of the rows. Not the run's seed: every run sees the same rows.

    Raises:
        ValueError: sizes that cannot be met, or noise outside of [0, 1].
    """
    fewest, most = (int(n) for n in terms)
    if not 2 <= fewest <= most:
        raise ValueError(f"task.terms must be [fewest, most] with 2 <= fewest <= most, got {list(terms)}.")
    if n_train < 1 or n_eval < 0:
        raise ValueError(f"task.n_train must be at least 1 and n_eval at least 0, got {n_train} and {n_eval}.")
    quality = Noise.of(noise or {})
    held_out = _held_out(n_eval, fewest, most, random.Random(f"chain eval {seed}"))

    def fresh(rng: random.Random) -> list[int]:
        while True:
            numbers = [rng.randint(1, 9) for _ in range(rng.randint(fewest, most))]
            if tuple(numbers) not in held_out:
                return numbers

    def demonstrations(count: int, seed: int) -> list[Row]:
        rng = random.Random(f"chain demonstrations {seed}")
        rows = []
        for _ in range(count):
            numbers = fresh(rng)
            rows.append({"prompt": _prompt(numbers), "completion": demonstrate(numbers, quality, rng)})
        return rows

    rng = random.Random(f"chain train {seed}")
    longest = len(TAGS) + len(" ".join(_sums([9] * most))) + len(str(9 * most)) + 1
    return Task(
        name="chain",
        train=[_row(fresh(rng)) for _ in range(n_train)],
        evaluation=[_row(numbers) for numbers in list(held_out)[:n_eval]],
        reward_funcs=[regex_format(PATTERN, name="format"), exact_match(in_tag("answer"), name="answer")],
        reward_weights=[0.2, 0.8],
        vocabulary=VOCABULARY,
        demonstrations=demonstrations,
        max_completion_length=longest,
    )


def demonstrate(numbers: list[int], noise: Noise, rng: random.Random) -> str:
    """One noisy completion for a prompt; it ends where the tokenizer's end-of-text token goes."""
    total, sums = numbers[0], []
    for number in numbers[1:]:
        right = total + number
        wrong = rng.choice([other for other in range(2, 9 * len(numbers) + 1) if other != right])
        result = right if rng.random() < noise.p_step else wrong
        sums.append(f"{total}+{number}={result}")
        total = result
    think = " ".join(sums) if rng.random() < noise.p_think else ""
    pieces = [OPEN_THINK, think, CLOSE_THINK, OPEN_ANSWER, str(total), CLOSE_ANSWER]
    if rng.random() >= noise.p_format:
        tag = pieces.index(rng.choice(TAGS))
        pieces[tag] *= rng.choice((0, 2))
    return "".join(pieces)


def _prompt(numbers: list[int] | tuple[int, ...]) -> str:
    return "+".join(map(str, numbers)) + "="


def _row(numbers: list[int] | tuple[int, ...]) -> Row:
    return {"prompt": _prompt(numbers), "answer": str(sum(numbers))}


def _sums(numbers: list[int]) -> list[str]:
    totals = list(accumulate(numbers))
    return [f"{before}+{n}={after}" for before, n, after in zip(totals, numbers[1:], totals[1:], strict=False)]


def _held_out(count: int, fewest: int, most: int, rng: random.Random) -> dict[tuple[int, ...], None]:
    """The first `count` prompts of evaluation and those reserved, distinct and in a fixed order (a dict as an ordered set), at
    most a fifth of those of one length."""
    room = {n: 9**n // 5 for n in range(fewest, most + 1)}
    if count > sum(room.values()):
        raise ValueError(
            f"task.n_eval={count}: only {sum(room.values())} prompts can be held out with {fewest} to {most} terms; "
            "lower task.n_eval or raise task.terms."
        )
    count = max(count, min(RESERVED, sum(room.values())))
    chosen: dict[tuple[int, ...], None] = {}
    lengths = list(room)
    while len(chosen) < count:
        n = lengths[len(chosen) % len(lengths)]
        numbers = tuple(rng.randint(1, 9) for _ in range(n))
        if numbers in chosen:
            continue
        chosen[numbers] = None
        room[n] -= 1
        lengths = [n for n in lengths if room[n] > 0]
    return chosen
