"""A game of errands, played by tool calls: the task in which credit for turns decides.

    prompt       start do2<go>           the first errand: answer with 2
    turn         <call>2</call>          one token, one decision
    tool         <tool>idle0<go>         the next one, which does not matter
    turn         <call>3</call>          ...
    tool         <tool>over<go>          after the last
    turn         <eos>

Every errand is independent of the others. Those that matter earn their share when the call has the digit that was shown; idle
ones earn nothing. The policy may stop at any turn. What a turn earned is known (`Errands.rewards`), so credit can be given by
turn; the reward of the whole conversation hides which of the calls earned it.
"""

from __future__ import annotations

import random

from tasks.base import Row, Task
from tasks.environments.dialogue import GO, TOOL, Dialogue
from tasks.environments.earned import EnvironmentReward

_START, _OVER = "start", "over"


class Errands:
    """One conversation. `reset(seed)` lays out its errands; the same seed gives the same ones."""

    def __init__(self, count: int, options: int, idle: float):
        self.count, self.options, self.idle = count, options, idle
        self.rewards: list[float] = []

    def reset(self, seed: int = 0, **row) -> str:
        self._errands = errands_of(seed, self.count, self.options, self.idle)
        self._matter = max(sum(matters for matters, _ in self._errands), 1)
        self.rewards = []
        return self._shown()

    def answer(self, digit: int) -> str:
        """Answers the errand that was shown.

        Args:
            digit: the digit of the errand.

        Returns:
            the next errand
        """
        if len(self.rewards) >= self.count:
            raise ValueError(_OVER)
        matters, right = self._errands[len(self.rewards)]
        self.rewards.append(matters * (digit == right) / self._matter)
        return self._shown()

    def state_key(self) -> str:
        return self._shown()

    def _shown(self) -> str:
        return _OVER if len(self.rewards) == self.count else errand_word(*self._errands[len(self.rewards)])


def errands_of(seed: int, count: int, options: int, idle: float) -> list[tuple[bool, int]]:
    """(whether it matters, the right digit) of each errand of a conversation."""
    rng = random.Random(f"errands {seed}")
    return [(rng.random() >= idle, rng.randrange(options)) for _ in range(count)]


def errand_word(matters: bool, digit: int) -> str:
    """The token that shows an errand."""
    return f"{'do' if matters else 'idle'}{digit}"


def errands(
    count: int = 8, options: int = 4, idle: float = 0.25, n_train: int = 1024, n_eval: int = 64, seed: int = 0
) -> Task:
    """`count` errands with `options` digits to answer each; a share `idle` of them earns nothing.

    The demonstrations are conversations of random calls: they teach how to call, not what.

    Args:
        count: turns of a whole conversation, besides the last, which ends it; set trainer.max_tool_calling_iterations and
            trainer.max_completion_length with it.
        options: digits, 2 to 10; a policy that calls at random is right in 1/options.
        idle: share of errands that do not matter, in [0, 1).
        n_train, n_eval: conversations to train and to evaluate on.
        seed: of the data.

    Raises:
        ValueError: sizes out of range.
    """
    if count < 1 or not 2 <= options <= 10 or not 0 <= idle < 1 or n_train < 1 or n_eval < 0:
        raise ValueError(
            "task=errands needs count >= 1, options from 2 to 10, idle in [0, 1), n_train >= 1 and n_eval >= 0, got "
            f"count={count}, options={options}, idle={idle}, n_train={n_train}, n_eval={n_eval}."
        )
    dialogue = Dialogue("answer", "digit", tuple(range(options)))
    words = [errand_word(matters, digit) for matters in (True, False) for digit in range(options)]

    def rows(number: int, what: str) -> list[Row]:
        # A seed of its own for each row, so that no conversation is trained on and evaluated on.
        first = random.Random(f"errands {what} {seed}").randrange(2**40)
        prompt = [{"role": "user", "content": _START}]
        return [{"prompt": prompt, "seed": 2 * (first + row) + (what == "eval")} for row in range(number)]

    def demonstrations(number: int, seed: int) -> list[Row]:
        rng = random.Random(f"errands demonstrations {seed}")
        return [_random_talk(rng, dialogue, count, options, idle) for _ in range(number)]

    return Task(
        name="errands",
        train=rows(n_train, "train"),
        evaluation=rows(n_eval, "eval"),
        reward_funcs=[EnvironmentReward(name="errands")],
        reward_weights=[1.0],
        vocabulary=(*dialogue.vocabulary, _START, *words, _OVER),
        demonstrations=demonstrations,
        max_completion_length=4 * count + 1,
        environment=lambda: Errands(count, options, idle),
        dialogue=dialogue,
    )


def _random_talk(rng: random.Random, dialogue: Dialogue, count: int, options: int, idle: float) -> Row:
    seen = [errand_word(*errand) for errand in errands_of(rng.randrange(2**40), count, options, idle)]
    turns = [f"{dialogue.call(rng.randrange(options))}{TOOL}{after}{GO}" for after in [*seen[1:], _OVER]]
    return {"prompt": f"{_START}{seen[0]}{GO}", "completion": "".join(turns)}
