"""A game of errands, played by tool calls: the task in which credit for turns decides.

    prompt       start do2<go>           the first errand: answer with 2
    turn         <call>2</call>          one token, one decision
    tool         <tool>idle0<go>         the next one, which does not matter
    turn         <call>3</call>          ...
    tool         <tool>over<go>          after the last
    turn         <eos>

By default every errand is independent of the others. Those that matter (`do`) earn their share when the call has the digit
that was shown; idle ones earn nothing. The policy may stop at any turn. What a turn earned is known (`Errands.rewards`), so
credit can be given by turn; the reward of the whole conversation hides which of the calls earned it.

Two more kinds give calls consequences (`keys`, `lures`). They cut a conversation into sections, which begin at its start and
at every key:

    key2    earns nothing; answered with another digit, the section it begins is shut
    lure2   earns half a share when it is answered with its digit, and shuts the rest of its section

In a section that is shut all errands up to the next key are shown, and count, as idle. Best is to answer every key and leave
every lure, whose section always holds an errand yet to be done: who looks at what a call earns at once does the opposite.
"""

from __future__ import annotations

import random

from tasks.base import Row, Task
from tasks.environments.dialogue import GO, TOOL, Dialogue
from tasks.environments.earned import EnvironmentReward

_START, _OVER = "start", "over"
DO, IDLE, KEY, LURE = "do", "idle", "key", "lure"
WORTH = {DO: 1.0, IDLE: 0.0, KEY: 0.0, LURE: 0.5}
"""What a right answer to each kind earns, before it is divided by the number of errands to be done."""


class Errands:
    """One conversation. `reset(seed)` lays out its errands; the same seed gives the same ones."""

    def __init__(self, count: int, options: int, idle: float, keys: float = 0.0, lures: float = 0.0):
        self.count, self.options, self.shares = count, options, (idle, keys, lures)
        self.rewards: list[float] = []

    def reset(self, seed: int = 0, **row) -> str:
        self._errands = errands_of(seed, self.count, self.options, *self.shares)
        self._matter = max(sum(kind == DO for kind, _ in self._errands), 1)
        self._open = True
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
        kind, right = self._errands[len(self.rewards)]
        kind = kind_shown(kind, self._open)
        self._open = stays_open(kind, digit == right, self._open)
        self.rewards.append((digit == right) * WORTH[kind] / self._matter)
        return self._shown()

    def state_key(self) -> str:
        return self._shown()

    def _shown(self) -> str:
        if len(self.rewards) == self.count:
            return _OVER
        kind, digit = self._errands[len(self.rewards)]
        return errand_word(kind_shown(kind, self._open), digit)


def errands_of(
    seed: int, count: int, options: int, idle: float, keys: float = 0.0, lures: float = 0.0
) -> list[tuple[str, int]]:
    """(kind, the right digit) of each errand of a conversation."""
    rng = random.Random(f"errands {seed}")
    drawn = [(_kind(rng.random(), idle, keys, lures), rng.randrange(options)) for _ in range(count)]
    laid, to_do = [], False  # whether something is to be done later in the section
    for kind, digit in reversed(drawn):
        kind = DO if kind == LURE and not to_do else kind
        to_do = kind != KEY and (to_do or kind == DO)
        laid.append((kind, digit))
    return laid[::-1]


def _kind(draw: float, idle: float, keys: float, lures: float) -> str:
    return IDLE if draw < idle else KEY if draw < idle + keys else LURE if draw < idle + keys + lures else DO


def kind_shown(kind: str, is_open: bool) -> str:
    """What an errand is shown as, and counts as, in a section that is open or shut."""
    return kind if is_open or kind == KEY else IDLE


def stays_open(kind: str, is_right: bool, was_open: bool) -> bool:
    """Whether the section is open after an errand of this kind."""
    return is_right if kind == KEY else was_open and not (kind == LURE and is_right)


def errand_word(kind: str, digit: int) -> str:
    """The token that shows an errand."""
    return f"{kind}{digit}"


def digit_shown(word: str) -> int:
    """The digit of an errand that was shown."""
    return int(word[-1])


def errands(
    count: int = 8,
    options: int = 4,
    idle: float = 0.25,
    keys: float = 0.0,
    lures: float = 0.0,
    habit: float = 0.0,
    n_train: int = 1024,
    n_eval: int = 64,
    seed: int = 0,
) -> Task:
    """`count` errands with `options` digits to answer each; a share `idle` of them earns nothing.

    The demonstrations are conversations of random calls: they teach how to call, not what. With `habit` above 0 they also teach
    to look at the errand, and the wrong answer to it.

    Args:
        count: turns of a whole conversation, besides the last, which ends it; set trainer.max_tool_calling_iterations and
            trainer.max_completion_length with it.
        options: digits, 2 to 10; a policy that calls at random is right in 1/options.
        idle: share of errands that do not matter, in [0, 1).
        keys: share that earns nothing and opens or shuts what follows, in [0, 1).
        lures: share that earns a little and shuts what follows, in [0, 1); where nothing follows it is an errand to be done.
        habit: share of demonstrated calls that have the digit after the errand's own (after the last: 0), in [0, 1]; the others
            are random.
        n_train, n_eval: conversations to train and to evaluate on.
        seed: of the data.

    Raises:
        ValueError: sizes out of range.
    """
    shares = (idle, keys, lures)
    if count < 1 or not 2 <= options <= 10 or n_train < 1 or n_eval < 0 or min(shares) < 0 or not sum(shares) < 1:
        raise ValueError(
            "task=errands needs count >= 1, options from 2 to 10, n_train >= 1, n_eval >= 0, and idle, keys and lures >= 0 "
            f"that sum to less than 1, got count={count}, options={options}, idle={idle}, keys={keys}, lures={lures}, "
            f"n_train={n_train}, n_eval={n_eval}."
        )
    if not 0 <= habit <= 1:
        raise ValueError(f"task=errands needs a habit from 0 to 1, got {habit}.")
    dialogue = Dialogue("answer", "digit", tuple(range(options)))
    kinds = (DO, IDLE, *([KEY] if keys else []), *([LURE] if lures else []))
    words = [errand_word(kind, digit) for kind in kinds for digit in range(options)]

    def game() -> Errands:
        return Errands(count, options, *shares)

    def rows(number: int, what: str) -> list[Row]:
        # A seed of its own for each row, so that no conversation is trained on and evaluated on.
        first = random.Random(f"errands {what} {seed}").randrange(2**40)
        prompt = [{"role": "user", "content": _START}]
        return [{"prompt": prompt, "seed": 2 * (first + row) + (what == "eval")} for row in range(number)]

    def demonstrations(number: int, seed: int) -> list[Row]:
        rng = random.Random(f"errands demonstrations {seed}")
        return [_random_talk(rng, dialogue, game(), habit) for _ in range(number)]

    return Task(
        name="errands",
        train=rows(n_train, "train"),
        evaluation=rows(n_eval, "eval"),
        reward_funcs=[EnvironmentReward(name="errands")],
        reward_weights=[1.0],
        vocabulary=(*dialogue.vocabulary, _START, *words, _OVER),
        demonstrations=demonstrations,
        max_completion_length=4 * count + 1,
        environment=game,
        dialogue=dialogue,
    )


def _random_talk(rng: random.Random, dialogue: Dialogue, game: Errands, habit: float) -> Row:
    first = shown = game.reset(seed=rng.randrange(2**40))
    text = ""
    for _ in range(game.count):
        digit = rng.randrange(game.options)
        if habit and rng.random() < habit:
            digit = (digit_shown(shown) + 1) % game.options
        shown = game.answer(digit)
        text += f"{dialogue.call(digit)}{TOOL}{shown}{GO}"
    return {"prompt": f"{_START}{first}{GO}", "completion": text}
