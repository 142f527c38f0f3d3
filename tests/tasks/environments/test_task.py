"""An environment of one's own becomes a task; the game of errands is what its page says."""

from __future__ import annotations

import json
import statistics

import pytest

from tasks.environments.guarded import guard_environment
from tasks.environments.notes import notes_of
from tasks.environments.pays import may_pay
from tasks.environments.task import environment
from tasks.errands import Errands, errand_word, errands, errands_of

GAME = '''
class Game:
    def __init__(self, size=4):
        self.size = size

    def reset(self, seed=0, secret=None, **row):
        self.secret, self.rewards = secret if secret is not None else seed % self.size, []
        return "which?"

    def guess(self, number: int) -> str:
        """Guesses.

        Args:
            number: the guess.
        """
        self.rewards.append(float(number == self.secret))
        return "hit" if number == self.secret else "miss"

class Mute:
    def reset(self, **row): ...

class Free(Mute):
    def look(self) -> str:
        """Looks."""
        return ""

class Strict(Free):
    def reset(self, secret): ...

class Loose(Free):
    def act(self, **what) -> str: ...

class Paying(Game):
    def get_reward(self):
        return 7.0
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_env.py").write_text(GAME)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def talk(*numbers):
    calls = [{"type": "function", "function": {"name": "guess", "arguments": {"number": number}}} for number in numbers]
    return [
        message
        for call in calls
        for message in ({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": ""})
    ]


def test_a_class_in_a_file_is_a_task_that_pays_by_turn(folder):
    task = environment("my_env.py:Game", {"size": 5}, n_train=6, n_eval=2, prompt="Play.")
    assert len(task.train) == 6 and len(task.evaluation) == 2 and task.name == "game"
    assert len({row["seed"] for row in (*task.train, *task.evaluation)}) == 8
    again = environment("my_env.py:Game", {"size": 5}, n_train=6, n_eval=2, prompt="Play.")
    assert task.train == again.train != environment("my_env.py:Game", n_train=6, seed=1, prompt="Play.").train
    env = task.environment()
    assert env.size == 5 and env.reset(**task.train[0]) == "which?"
    env.guess(number=9)
    env.guess(number=env.secret)
    (reward,) = task.reward_funcs
    assert reward([], [talk(9, 0)], environments=[env]) == [1.0]
    assert reward.turn_rewards([], [talk(9, 0)], environments=[env]) == [{0: 0.0, 1: 1.0}]
    assert reward.__name__ == "Game" and notes_of(env).fault is None


def test_what_it_pays_itself_counts_once_and_trl_does_not_find_it(folder):
    import inspect

    task = environment("my_env.py:Paying", n_train=2, n_eval=0)
    env = task.environment()
    env.reset(secret=1)
    env.guess(number=1)
    assert task.reward_funcs[0]([], [talk(1)], environments=[env]) == [7.0]
    assert "get_reward" not in dict(inspect.getmembers(type(env), predicate=inspect.isfunction))


def test_rows_of_a_file_begin_conversations(folder):
    rows = [{"prompt": f"Play {i}.", "secret": i} for i in range(6)]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = environment("my_env.py:Game", path="rows.jsonl")
    row = task.train[0]
    assert row["prompt"][-1]["role"] == "user"
    env = task.environment()
    env.reset(**row)
    assert env.secret == row["secret"]


@pytest.mark.parametrize(
    "spec, arguments, words",
    [
        ("my_env.py:Gaem", {}, "did you mean 'Game'"),
        ("my_env.py:Game", {"sise": 3}, "sise"),
        ("my_env.py:Mute", {}, "has no tools"),
        ("my_env.py:GAME", {}, "GAME"),
        ("my_env.py", {}, "my_env.py:NAME"),
        ("my_env.py:Strict", {}, r"reset gets the columns prompt, seed .*\*\*row"),
        ("my_env.py:Loose", {}, "Tool act of environment Loose"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_remedy(folder, spec, arguments, words):
    with pytest.raises(ValueError, match=words):
        environment(spec, arguments)


def test_one_that_pays_nothing_needs_a_reward_function(folder):
    task = environment("my_env.py:Free", n_train=2, n_eval=0)
    assert task.reward_funcs == [] and "pays nothing" in task.unrewarded and "reward.funcs" in task.unrewarded


BASE = """
import functools
def kept(method):
    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        return method(self, *args, **kwargs)
    return wrapped
class Base:
    {body}
class Child(Base):
    def reset(self, **row): self.begin()
    def look(self) -> str:
        'Looks.'
        return ''
"""


@pytest.mark.parametrize(
    "body, pays",
    [
        ("def begin(self): self.rewards = []", True),
        ("def begin(self): setattr(self, 'rewards', [])", True),
        ("@kept\n    def begin(self): self.rewards = []", True),
        ("def begin(self): [None for _ in 'a' if (lambda: self.rewards.append(1))()]", True),
        ("begin = property(lambda self: setattr(self, 'rewards', []))", True),
        ("begin = functools.partialmethod(setattr, 'rewards', ())", False),
        ("rewards: list = None", True),
        ("__slots__ = ('rewards',)", True),
        ("def get_reward(self): return 1.0", True),
        ("def begin(self): self.reward = 'it notes no rewards'", False),
    ],
)
def test_what_a_base_class_notes_is_seen_without_its_source(body, pays):
    rooms: dict = {}
    exec(BASE.format(body=body), rooms)  # as in a notebook: there is no source
    assert may_pay(rooms["Child"]()) is may_pay(guard_environment(rooms["Child"](), 1.0)) is pays


def test_errands_pay_for_right_answers_to_those_that_matter_and_add_up_to_one():
    for seed in range(20):
        game, expected = Errands(8, 4, 0.5), errands_of(seed, 8, 4, 0.5)
        assert game.reset(seed=seed) == errand_word(*expected[0])
        for number, (_, digit) in enumerate(expected):
            shown = game.answer(digit=digit)
            assert shown == ("over" if number == 7 else errand_word(*expected[number + 1]))
        matter = [kind == "do" for kind, _ in expected]
        assert sum(game.rewards) == pytest.approx(1.0 if any(matter) else 0.0)
        assert [value > 0 for value in game.rewards] == matter
        with pytest.raises(ValueError):
            game.answer(digit=0)
        game.reset(seed=seed)
        game.answer(digit=(expected[0][1] + 1) % 4)
        assert game.rewards == [0.0]


def played(seed, answer, shares=(0.125, 0.25, 0.25)):
    """(words that were shown, what each call earned) when `answer(kind, digit)` says which digit to call."""
    game, shown = Errands(8, 4, *shares), []
    word = game.reset(seed=seed)
    while word != "over":
        shown.append(word)
        word = game.answer(digit=answer(word[:-1], int(word[-1])))
    return shown, game.rewards


def test_keys_open_what_follows_and_lures_shut_it():
    shut = 0
    for seed in range(200):
        laid = errands_of(seed, 8, 4, 0.125, 0.25, 0.25)
        to_do = max(sum(kind == "do" for kind, _ in laid), 1)
        shown, rewards = played(seed, lambda kind, digit: digit if kind != "lure" else (digit + 1) % 4)
        assert shown == [errand_word(*errand) for errand in laid]
        assert rewards == [(kind == "do") / to_do for kind, _ in laid]
        shown, rewards = played(seed, lambda kind, digit: digit if kind != "key" else (digit + 1) % 4)
        is_open = True
        for (kind, digit), word, reward in zip(laid, shown, rewards, strict=True):
            is_open = is_open or kind == "key"  # a key is shown whatever came before
            assert word == errand_word(kind if is_open else "idle", digit)
            assert reward == is_open * {"do": 1.0, "lure": 0.5}.get(kind, 0.0) / to_do
            is_open = is_open and kind not in ("key", "lure")
            shut += not is_open
    assert shut > 400


def test_a_lure_never_pays():
    for seed in range(300):
        laid = errands_of(seed, 8, 4, 0.125, 0.25, 0.25)
        for place, (kind, _) in enumerate(laid):
            section = [kind for kind, _ in laid[place + 1 :]]
            section = section[: section.index("key")] if "key" in section else section
            assert kind != "lure" or "do" in section


def test_without_keys_and_lures_the_game_has_no_words_for_them():
    assert not [word for word in errands().vocabulary if word[:-1] in ("key", "lure")]
    assert {word[:-1] for word in errands(keys=0.2, lures=0.2).vocabulary} >= {"do", "idle", "key", "lure"}
    for shares in ({"idle": 0.5, "keys": 0.3, "lures": 0.2}, {"lures": -0.1}):
        with pytest.raises(ValueError, match="sum to less than 1"):
            errands(**shares)


def test_errands_of_training_and_evaluation_differ_and_demonstrations_know_nothing_of_what_is_right():
    task = errands(count=3, options=2, n_train=50, n_eval=20)
    seeds = [row["seed"] for row in task.train], [row["seed"] for row in task.evaluation]
    assert not set(seeds[0]) & set(seeds[1]) and len(set(seeds[0])) == 50
    rows = task.demonstrations(400, 0)
    words = task.vocabulary
    right = []
    for row in rows:
        text = row["prompt"] + row["completion"]
        assert text.endswith("<tool>over<go>")
        shown = [
            word for word in text.replace("<go>", " ").replace("<tool>", " ").split() if word[:2] in ("do", "id", "st")
        ]
        calls = [piece[0] for piece in text.split("<call>")[1:]]
        right += [errand[-1] == call for errand, call in zip(shown, calls, strict=True)]
    assert 0.45 < sum(right) / len(right) < 0.55 and len(words) == len(set(words))


def test_a_habit_is_the_next_digit_and_random_calls_stay_as_they_were():
    def of(habit):
        """(the errand's digit, the demonstrated call) of all turns."""
        texts = [row["prompt"] + row["completion"] for row in errands(keys=0.25, habit=habit).demonstrations(300, 0)]
        turns = [turn for text in texts for turn in text.split("<tool>") if "<call>" in turn]
        return [(int(turn.split("<go>")[0][-1]), int(turn.split("<call>")[1][0])) for turn in turns]

    assert all(call == (digit + 1) % 4 for digit, call in of(1.0))
    turns = of(0.4)
    shares = [statistics.fmean((call - digit) % 4 == after for digit, call in turns) for after in range(4)]
    assert shares == pytest.approx([0.15, 0.55, 0.15, 0.15], abs=0.03) and len(turns) == 2400
    for habit in (-0.1, 1.1):
        with pytest.raises(ValueError, match="habit from 0 to 1"):
            errands(habit=habit)
