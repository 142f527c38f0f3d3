"""Kinds of environments and of calls that nobody would write on purpose: each costs its own row, or is an answer to the policy."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Literal

import numpy as np
import pytest
import torch

from tasks.environments.earned import EnvironmentReward, calls_of, earned_by_turn, states_by_turn
from tasks.environments.factory import guarded_factory
from tasks.environments.functions import Failed, guarded_function
from tasks.environments.guarded import Fault, guard_environment
from tasks.environments.notes import notes_of, state_number


class Unwritten:
    def __str__(self):
        raise OSError("no text of me")

    __repr__ = __str__


class Cursed(str):
    def __str__(self):
        raise OSError("no text of me")


def deep(levels: int = 100_000):
    nested: dict = {}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


class Stop(BaseException):
    """As pytest's and trio's own."""


def stops(error):
    raise error


RETURNED = {
    "bytes": lambda: b"abc",
    "a generator": lambda: (part for part in "abc"),
    "a coroutine's kin": lambda: object(),
    "a number of too many digits": lambda: 10**5000,
    "a broken text": lambda: Cursed("a"),
    "something broken in a list": lambda: [Unwritten()],
    "a dict that is too deep": deep,
    "a block without text": lambda: [{"type": "text"}],
    "an image among texts": lambda: [{"type": "text", "text": "a"}, {"type": "image", "image": 1}],
    "sys.exit": lambda: stops(SystemExit(1)),
    "no Exception": lambda: stops(Stop()),
    "recursion": lambda: stops(RecursionError("too deep")),
}
FINE = {
    "nan": (lambda: float("nan"), "nan"),
    "a number": (lambda: 3, "3"),
    "a number of numpy": (lambda: np.float32(0.5), "0.5"),
    "nested": (lambda: {"a": {"b": [1, None]}}, "{'a': {'b': [1, None]}}"),
    "a list of words": (lambda: ["a", "b"], "['a', 'b']"),
    "nothing": (lambda: "", ""),
    "blocks of text": (lambda: [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
}


class Game:
    """Pays 1 for each call of `move`, notes nothing for `look`."""

    def __init__(self, returned=lambda: "fine"):
        self.returned = returned
        self.rewards: list = []

    def reset(self, **row):
        self.rewards = []

    def move(self, by: int, way: Literal["left", "right"] = "left") -> str:
        """Moves.

        Args:
            by: how far.
            way: where to.
        """
        shown = self.returned()
        self.rewards.append(float(by + 0))
        return shown

    def look(self) -> str:
        """Looks."""
        return "a wall"


def said(*turns):
    """A conversation of assistant messages with the calls (name, arguments) of each."""
    messages = []
    for calls in turns:
        tools = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in calls]
        messages.append({"role": "assistant", "content": "", "tool_calls": tools})
        messages += [{"role": "tool", "name": name, "content": "?"} for name, _ in calls]
    return messages


def played(env, talk):
    """Makes the calls of a conversation as TRL's loop does, and returns what the policy read."""
    env.reset()
    answers = []
    for message in talk:
        for call in message.get("tool_calls", ()):
            function = call["function"]
            try:
                answers.append(getattr(env, function["name"])(**function["arguments"]))
            except Exception as error:
                answers.append({"error": str(error)})
    return answers


@pytest.mark.parametrize("kind", RETURNED)
def test_what_cannot_be_shown_is_a_fault_of_the_row(kind):
    env, fine = guard_environment(Game(RETURNED[kind])), guard_environment(Game())
    talk = said([("move", {"by": 1})], [("look", {})])
    assert played(env, talk) == [{"error": "move failed"}, {"error": "the environment does not answer"}]
    played(fine, talk)
    assert EnvironmentReward()([], [talk, talk], environments=[env, fine]) == [None, 1.0]
    assert len(notes_of(env).fault[1]) < 300


@pytest.mark.parametrize("kind", FINE)
def test_what_can_be_shown_is_its_text(kind):
    returned, text = FINE[kind]
    env = guard_environment(Game(returned))
    assert played(env, said([("move", {"by": 1})])) == [text] and notes_of(env).fault is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"by": "x"},
        {"by": None},
        {"by": [1]},
        {"by": {}},
        {"by": "x", "way": "left"},
        {},
        {"self": 1},
        {"by": 1, "self": 2},
    ]
    + ["by", None, 7, ["by"]],
)
def test_arguments_that_do_not_fit_are_an_answer_and_misplace_nothing(arguments):
    env = guard_environment(Game())
    talk = said(
        [("move", arguments), ("unknown", {"by": 1})], [("look", {}), ("move", {"by": 2})], [("move", {"by": 3})]
    )
    answers = played(env, talk)
    assert "error" in answers[0] and answers[2:] == ["a wall", "fine", "fine"]
    assert notes_of(env).fault is None and env.rewards == [2.0, 3.0]
    assert earned_by_turn(env, talk) == {1: 2.0, 2: 3.0}
    assert EnvironmentReward()([], [talk], environments=[env]) == [5.0]


def test_an_error_on_arguments_of_the_right_types_is_the_environment_s():
    env = guard_environment(Game(lambda: stops(TypeError("inside"))))
    assert played(env, said([("move", {"by": 1, "way": "right"})])) == [{"error": "move failed"}]
    assert notes_of(env).fault is not None


def test_several_calls_of_one_turn_and_none_that_reach_keep_state_and_reward_at_their_turns():
    class Keyed(Game):
        def state_key(self):
            return len(self.rewards)

    env = guard_environment(Keyed())
    talk = said(
        [("move", {"by": 1}), ("move", {"by": 2})], [("move", "broken")], [("move", {"by": 4}), ("look", {})], []
    )
    played(env, talk)
    assert earned_by_turn(env, talk) == {0: 3.0, 2: 4.0}
    assert states_by_turn(env, talk) == [state_number(number) for number in (0, 2, 2, 3)]
    assert [name for _, name in calls_of([*talk, {"role": "assistant", "tool_calls": [{"type": "other"}]}])][
        -1
    ] == "look"


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_rewards_of_the_rollout_before_are_noticed_however_many_calls_were_refused(refused):
    class Leaks(Game):
        def reset(self, **row):
            self.left, self.rewards = self.rewards, []

        def move(self, by: int) -> str:
            """Moves.

            Args:
                by: how far.
            """
            if by < 0:
                raise ValueError("only forwards")
            return super().move(by)

        def get_reward(self):
            self.rewards = [*self.left[:refused], *self.rewards]
            return sum(self.rewards)

    env = guard_environment(Leaks())
    talk = said([("move", {"by": 1}), ("move", {"by": 2})], *[[("move", {"by": -1})]] * refused)
    scores = []
    for _ in range(2):
        played(env, talk)
        scores += EnvironmentReward()([], [talk], environments=[env])
    assert scores == ([3.0, 3.0] if refused == 0 else [3.0, None])


@pytest.mark.parametrize("left", [[1.0], {0: 1.0}])
def test_a_reset_that_leaves_rewards_is_a_fault_and_empty_places_are_none(left):
    class Leaks(Game):
        def reset(self, **row):
            self.rewards = self.start

    env = guard_environment(Leaks())
    for start, fault in ((left, "leak"), ([], None), ({}, None), ({0: 0.0, 1: None}, None)):
        env.start = start
        env.reset()
        assert (notes_of(env).fault or (None,))[0] == fault


@pytest.mark.parametrize(
    "shown",
    [[{"role": "user", "content": "hello"}], ["a"], [], b"a", {"a": 1}, 7, lambda: None, "a\ud800", Cursed("a")],
)
def test_a_reset_says_text_or_its_row_is_a_fault(shown):
    class Says(Game):
        def reset(self, **row):
            return shown

    env = guard_environment(Says())
    assert env.reset() is None and notes_of(env).fault[0] in ("wrong_type", "exception")
    Says.reset = lambda self, **row: [{"type": "text", "text": "hello"}]
    env = guarded_factory(lambda: type("Again", (Says,), {})())()
    assert env.reset() == "hello" and notes_of(env).fault is None


class ThirdTime(Game):
    made = 0

    def __init__(self):
        type(self).made += 1
        if type(self).made == 3:
            raise OSError("no more servers")
        self.inner = object()
        super().__init__()

    def __getattr__(self, name):
        return getattr(self.inner, name)  # without end where `__init__` was not run


def test_an_environment_that_cannot_be_made_later_costs_its_rows_each_time():
    make = guarded_factory(ThirdTime, sums=True)
    envs = [make() for _ in range(4)]
    talk = said([("move", {"by": 1})])
    for _ in range(2):
        answers = [played(env, talk) for env in envs]
        assert EnvironmentReward()([], [talk] * 4, environments=envs) == [1.0, 1.0, None, 1.0]
        assert answers[2] == [{"error": "the environment does not answer"}]
        assert "no more servers" in notes_of(envs[2]).fault[1]
    with pytest.raises(OSError):
        guarded_factory(lambda: stops(OSError("none at all")))()


def test_tools_that_no_policy_could_call_are_refused_before_anything_is_played():
    class Loose(Game):
        def act(self, **what) -> str: ...

    class Placed(Game):
        def act(self, what: int, /) -> str: ...

    class Shadowed(Game):
        def __init__(self):
            super().__init__()
            self.look = 3

    class Awaited(Game):
        async def reset(self, **row): ...

    for kind, words in ((Loose, r"\*\*what"), (Placed, "leave out the `/`"), (Shadowed, "Rename"), (Awaited, "async")):
        with pytest.raises(ValueError, match=words):
            guarded_factory(kind)()


def test_the_policy_keeps_its_random_numbers_whatever_an_environment_seeds(caplog):
    class Seeds(Game):
        def reset(self, **row):
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(self.seed)
            return super().reset()

        def look(self) -> str:
            """Looks."""
            return str(torch.rand(()).item())

    torch.manual_seed(11)
    undisturbed = torch.rand(4)
    for seed in (0, 11):  # another one, and the trainer's own
        torch.manual_seed(11)
        env = guard_environment(Seeds())
        env.seed = seed
        drawn = torch.rand(2)
        env.reset()
        assert torch.equal(torch.cat([drawn, torch.rand(2)]), undisturbed)
    env.look()
    assert not torch.equal(torch.rand(1), undisturbed[2:3]), "what it only draws stays drawn"
    assert caplog.text.count("torch.Generator") == 1


def test_an_async_tool_that_would_end_its_loop_is_a_fault():
    class Waits(Game):
        async def rest(self) -> str:
            """Rests."""
            stops(self.error)

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    env = guard_environment(Waits())
    for error in (SystemExit(1), KeyboardInterrupt(), Stop(), asyncio.CancelledError(), ValueError("no")):
        env.error = error
        env.reset()
        kind = ValueError if isinstance(error, ValueError) else Fault
        with pytest.raises(kind):
            asyncio.run_coroutine_threadsafe(env.rest(), loop).result(5)
        assert (notes_of(env).fault is None) == (kind is ValueError)
    loop.call_soon_threadsafe(loop.stop)


def test_the_user_can_always_stop_a_run():
    env = guard_environment(Game(lambda: stops(KeyboardInterrupt())))
    env.reset()
    with pytest.raises(KeyboardInterrupt):
        env.move(by=1)


def test_a_plain_function_as_a_tool_is_guarded_too(caplog):
    def search(query: str) -> str:
        """Searches.

        Args:
            query: what for.
        """
        return {"none": None, "list": ["a"], "half": "\ud800"}[query]

    tool = guarded_function(search, 0.2)
    assert tool.__name__ == "search" and tool.__doc__ == search.__doc__
    assert tool(query="list") == "['a']"
    for query in ("none", "half", "else"):
        with pytest.raises(Failed, match="search failed"):
            tool(query=query)
    for wrong in ({"query": [1]}, {}, {"question": "none"}):
        with pytest.raises(TypeError):
            tool(**wrong)
    assert caplog.text.count("Tool 'search' went wrong") == 2

    async def wait(seconds: float) -> str:
        """Waits."""
        await asyncio.sleep(seconds)
        return "up"

    assert asyncio.run(guarded_function(wait, 0.05)(0.0)) == "up"
    with pytest.raises(Failed):
        asyncio.run(guarded_function(wait, 0.05)(5.0))
