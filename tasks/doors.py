"""Many independent decisions in one completion: the task in which credit assignment decides.

    prompt       abcd
    completion   cabdacbb...        K letters, one for each door; the reward is the share of doors that open

The key is fixed, so a policy with absolute positions can learn each door by itself; a reward for the whole sequence
hides which of the K letters earned it. Where a letter is right is known exactly, so `share` has spans.
"""

from __future__ import annotations

import random
import string

from rewards.base import SpanReward
from rewards.text.spans import Span
from tasks.base import Row, Task


class door_share(SpanReward):
    """Share of the doors whose letter is right: text -> [0, 1]. A missing letter is wrong, one beyond K is ignored.

    Spans: 1/K at each right letter, decided by that letter alone; a wrong one earns nothing.

    Raises:
        ValueError: an empty key.
    """

    def __init__(self, key: str, *, name: str = "share"):
        if not key:
            raise ValueError("the key needs at least one letter.")
        self.key, self.__name__ = key, name

    def score(self, text: str) -> float:
        return sum(letter == right for letter, right in zip(text, self.key, strict=False)) / len(self.key)

    def text_spans(self, text: str) -> list[Span]:
        value = 1 / len(self.key)
        pairs = enumerate(zip(text, self.key, strict=False))
        return [Span(place, place + 1, value) for place, (letter, right) in pairs if letter == right]


def doors(count: int = 64, options: int = 4, n_train: int = 1024, n_eval: int = 64, seed: int = 0) -> Task:
    """`count` doors with `options` letters each; a uniform policy opens 1/options of them.

    There is one prompt, so training and evaluation rows are the same question; `n_eval` is how many completions
    evaluation draws. The vocabulary is the letters alone: every token is a decision. Completions must have exactly
    `count` tokens (`configs/experiment/doors.yaml`): a policy that may end early learns that before the doors.
    The demonstrations are uniformly random letters and teach nothing; imitating them costs the policy its sense of
    place, so the experiment starts from random weights.

    Args:
        count: K, letters in a completion; change it together with trainer.max_completion_length and
            trainer.generation_kwargs.min_new_tokens.
        options: letters to choose from, 2 to 26.
        n_train: rows to train on.
        n_eval: rows to evaluate on.
        seed: of the key.

    Raises:
        ValueError: sizes out of range.
    """
    if count < 1 or not 2 <= options <= len(string.ascii_lowercase) or n_train < 1 or n_eval < 0:
        raise ValueError(
            f"task=doors needs count >= 1, options from 2 to 26, n_train >= 1 and n_eval >= 0, got count={count}, "
            f"options={options}, n_train={n_train}, n_eval={n_eval}."
        )
    letters = string.ascii_lowercase[:options]
    row = {"prompt": letters}
    key = "".join(random.Random(f"doors key {seed}").choices(letters, k=count))

    def demonstrations(rows: int, seed: int) -> list[Row]:
        rng = random.Random(f"doors demonstrations {seed}")
        return [{**row, "completion": "".join(rng.choices(letters, k=count))} for _ in range(rows)]

    return Task(
        name="doors",
        train=[dict(row) for _ in range(n_train)],
        evaluation=[dict(row) for _ in range(n_eval)],
        reward_funcs=[door_share(key)],
        reward_weights=[1.0],
        vocabulary=tuple(letters),
        demonstrations=demonstrations,
        max_completion_length=count,
    )
