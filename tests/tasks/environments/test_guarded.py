"""Whatever an environment does, the rollout ends, and what it earned is told by turn or the row is left out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import threading
import time

import pytest

from tasks.environments.earned import EnvironmentReward, calls_by_turn, earned_by_turn, states_by_turn
from tasks.environments.factory import guarded_factory
from tasks.environments.guarded import Fault, guard_environment, tool_names
from tasks.environments.notes import notes_of, state_number


class Counter:
    """A counter that pays for each step."""

    def __init__(self):
        self.rewards: list[float] = []
        self.count = 0

    def reset(self, start: int = 0, **row):
        self.rewards, self.count = [], start
        return f"at {start}"

    def step(self, by: int) -> str:
        """Moves the counter.

        Args:
            by: how far.
        """
        if by < 0:
            raise ValueError("only forwards")
        self.count += by
        self.rewards.append(by / 10)
        return self.show()

    def show(self) -> str:
        """Shows the counter."""
        return f"at {self.count}"

    def get_reward(self) -> float:
        return self.count / 10

    def state_key(self):
        return self.count


def said(*calls, last="done"):
    """A conversation: one assistant message for each argument (a call, a tuple of calls, or a text), answers between."""
    messages = []
    for each in calls:
        several = each if isinstance(each, tuple) and each and isinstance(each[0], tuple) else (each,)
        tools = [
            {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in several
        ]
        messages.append({"role": "assistant", "content": "", "tool_calls": tools})
        messages += [{"role": "tool", "name": name, "content": "?"} for name, _ in several]
    return [*messages, {"role": "assistant", "content": last}]


def test_a_guarded_environment_is_what_it_was_for_trl_and_for_rewards():
    env = guard_environment(Counter())
    assert isinstance(env, Counter) and type(env).__name__ == "Counter" and env.__doc__ == Counter.__doc__
    assert tool_names(type(env)) == ["show", "step"]  # neither state_key nor reset nor get_reward
    assert inspect.signature(type(env).step) == inspect.signature(Counter.step)
    assert type(guard_environment(Counter())) is type(env)
    assert env.reset(start=3) == "at 3" and env.step(by=2) == "at 5" and env.get_reward() == 0.5
    assert notes_of(env).calls == [("step", True)]  # its own call of `show` is none of the policy's


def test_wrong_arguments_and_value_errors_are_answers_to_the_policy_and_no_faults():
    env = guard_environment(Counter())
    env.reset()
    for arguments in ({"by": -1}, {"far": 2}, {}):
        with pytest.raises(ValueError):
            env.step(**arguments)
    env.step(by=1)
    assert notes_of(env).calls == [("step", False)] * 3 + [("step", True)] and notes_of(env).fault is None


class Bad(Counter):
    kind = ""

    def reset(self, **row):
        if self.kind == "reset":
            raise RuntimeError("no")
        return super().reset() if self.kind != "shown" else object()

    def show(self) -> str:
        return {
            "none": None,
            "long": "x" * 200_000,
            "surrogate": "a\ud800",
            "image": [{"type": "image", "image": 1}],
            "thing": object(),
        }.get(self.kind, "fine")

    def step(self, by: int) -> str:
        if self.kind == "hangs":
            time.sleep(30)
        if self.kind == "raises":
            raise KeyError("oh")
        return "fine"

    def get_reward(self):
        return {"nan": float("nan"), "text": "much"}.get(self.kind, 1.0)


@pytest.mark.parametrize(
    "kind", ["reset", "shown", "none", "long", "surrogate", "image", "thing", "hangs", "raises", "nan", "text"]
)
def test_a_fault_costs_its_row_and_nothing_else(kind):
    env = guard_environment(Bad(), seconds=0.2)
    fine = guard_environment(Counter())
    env.kind = kind
    env.reset()
    fine.reset()
    fine.step(by=4)
    for call in (lambda: env.show(), lambda: env.step(by=1)):
        try:
            call()
        except (Fault, ValueError) as told:
            assert len(str(told)) < 200
    reward = EnvironmentReward()
    scores = reward([], [said(("show", {})), said(("step", {"by": 4}))], environments=[env, fine])
    assert scores == [None, 0.4]
    assert notes_of(env).fault is not None and notes_of(fine).fault is None
    env.kind = ""
    assert env.reset() == "at 0" and env.get_reward() == 1.0 and notes_of(env).fault is None


def test_what_was_left_from_the_rollout_before_is_noticed():
    class Leaks(Counter):
        def reset(self, **row):
            self.count = 0

    env = guard_environment(Leaks())
    scores = []
    for _ in range(2):
        env.reset()
        with contextlib.suppress(Fault):
            env.step(by=1)
        scores += EnvironmentReward()([], [said(("step", {"by": 1}))], environments=[env])
    assert scores == [0.1, None]


def test_rewards_of_calls_become_rewards_of_turns():
    env = guard_environment(Counter())
    env.reset()
    for by in (1, 2):
        env.step(by=by)
    env.show()
    with pytest.raises(ValueError):
        env.step(by=-5)
    env.step(by=3)
    talk = said(
        (("step", {"by": 1}), ("step", {"by": 2})),
        ("show", {}),
        (("step", {"by": -5}), ("unknown", {})),
        ("step", {"by": 3}),
    )
    assert [turn for turn, _ in calls_by_turn(env, talk)] == [0, 0, 1, 2, 3]
    notes_of(env).grown.clear()  # as if the list were made at the end
    env.rewards = {0: 0.1, 1: 0.2, 3: 0.3}  # by number of the call that ran: `show` is number 2
    assert earned_by_turn(env, talk) == {0: pytest.approx(0.3), 3: 0.3}
    env.rewards = [0.1, 0.2, None, 0.3]
    assert earned_by_turn(env, talk) == {0: pytest.approx(0.3), 1: 0.0, 3: 0.3}
    env.rewards = [0.1, 0.2, 0.0, -1.0, 0.3]  # one for each call, the refused one too
    assert earned_by_turn(env, talk)[2] == -1.0
    for wrong in ([0.1], [0.1] * 9, "much", {7: 1.0}, [0.1, float("nan"), 0, 0]):
        env.rewards = wrong
        assert EnvironmentReward()([], [talk], environments=[env]) == [None]
        notes_of(env).fault = None


def test_a_method_for_turns_comes_first_and_may_be_shorter():
    env = guard_environment(Counter())
    env.turn_rewards = lambda: [0.5, None]
    env.reset()
    env.step(by=1)
    talk = said(("step", {"by": 1}))
    assert earned_by_turn(env, talk) == {0: 0.5, 1: 0.0}
    assert EnvironmentReward()([], [talk], environments=[env]) == [0.1]  # get_reward says what it is in all
    env.turn_rewards = lambda: [0.0] * 3
    env.reset()
    env.step(by=1)
    with pytest.raises(ValueError, match="3 rewards for 2 turns"):
        earned_by_turn(env, talk)


def test_states_are_those_in_which_turns_began():
    env = guard_environment(Counter())
    env.reset(start=5)
    env.step(by=1)
    env.step(by=1)
    talk = said((("step", {"by": 1}), ("step", {"by": 1})))
    assert states_by_turn(env, talk) == [state_number(5), state_number(7)]
    assert state_number(("a", 1)) == state_number(("a", 1)) != state_number(("a", 2))


def test_async_tools_are_guarded_too():
    class Slow(Counter):
        async def wait(self, seconds: float) -> str:
            """Waits."""
            await asyncio.sleep(seconds)
            return "up"

    env = guarded_factory({"slow": Slow}, 0.1)["slow"]()
    assert inspect.iscoroutinefunction(env.wait)
    env.reset()
    assert asyncio.run(env.wait(seconds=0.0)) == "up"
    with pytest.raises(Fault):
        asyncio.run(env.wait(seconds=5.0))
    assert notes_of(env).calls == [("wait", True), ("wait", False)] and notes_of(env).fault[0] == "timeout"


def test_without_environments_the_reward_names_the_remedy():
    with pytest.raises(ValueError, match="task=environment"):
        EnvironmentReward()([], ["text"])


class Slotted:
    """No place for anything of ours."""

    __slots__ = ("count", "rewards")

    def reset(self, **row):
        self.count, self.rewards = 0, []

    step = Counter.step
    show = Counter.show


@dataclasses.dataclass(frozen=True)
class Frozen:
    said: list = dataclasses.field(default_factory=list)

    def reset(self, **row):
        self.said.clear()

    @staticmethod
    def step(by: int) -> str:
        """Moves.

        Args:
            by: how far.
        """
        return {1: "fine"}[by]


@pytest.mark.parametrize("kind", [Slotted, Frozen])
def test_classes_that_take_no_attributes_are_guarded_as_any_other(kind):
    first, second = (guard_environment(kind()) for _ in range(2))
    for env in (first, second):
        env.reset()
    assert isinstance(first, kind) and "step" in tool_names(type(first))
    assert list(inspect.signature(first.step).parameters) == ["by"]
    first.step(by=1)
    if kind is Slotted:
        second.count = None
    with pytest.raises(Fault):
        second.step(by=2)
    assert notes_of(first).calls == [("step", True)] and notes_of(first).fault is None
    assert notes_of(second).fault is not None
    second.reset()
    assert notes_of(second).fault is None and notes_of(second).calls == []


def test_an_environment_without_get_reward_pays_what_its_turns_earned():
    class Silent(Slotted):
        pass

    env = guarded_factory({"a": Silent}, sums=True)["a"]
    assert not hasattr(guarded_factory(Silent)(), "get_reward")
    made = guard_environment(Counter(), sums=True)
    made.reset(start=3)
    assert made.get_reward() == 0.3, "its own get_reward stays"

    class Noted(Slotted):
        def __init__(self):
            self.rewards = []

    made = guarded_factory(Noted, sums=True)()
    made.reset()
    made.step(by=4)
    made.rewards.append(None)
    assert made.get_reward() == 0.4
    assert not hasattr(env(), "get_reward"), "it has noted nothing by then, and nobody knows that it will"


def test_async_calls_of_one_turn_end_in_any_order_and_are_paid_on_their_own_loop():
    class Waits(Counter):
        async def step(self, by: int) -> str:  # type: ignore[override]
            """Moves.

            Args:
                by: how far.
            """
            await asyncio.sleep(0.02 * by)
            if by == 1:
                raise ValueError("no")
            self.loop = asyncio.get_running_loop()
            return self.show()

        async def get_reward(self):  # type: ignore[override]
            return float(self.loop is asyncio.get_running_loop())

    env = guard_environment(Waits())
    env.reset()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def both():
        return await asyncio.gather(env.step(by=2), env.step(by=1), env.step(by=0), return_exceptions=True)

    asyncio.run_coroutine_threadsafe(both(), loop).result()
    assert notes_of(env).calls == [("step", True), ("step", False), ("step", True)]
    env.rewards = None
    assert EnvironmentReward()([], [said(("step", {"by": 2}))], environments=[env]) == [1.0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_get_reward_that_gives_none_abstains_whatever_its_turns_earned():
    class Shy(Counter):
        def get_reward(self):  # type: ignore[override]
            return None

    env = guard_environment(Shy())
    env.reset()
    env.step(by=4)
    assert EnvironmentReward()([], [said(("step", {"by": 4}))], environments=[env]) == [None]
    assert notes_of(env).fault is None


@pytest.mark.parametrize("sums", [True, False])
def test_what_turns_earned_is_asked_once_a_rollout_and_never_of_one_that_went_wrong(sums):
    asked = []

    class Told(Counter):
        get_reward = None  # type: ignore[assignment]

        def turn_rewards(self):
            asked.append(self.count)
            return [self.count / 10] if self.count < 9 else time.sleep(30)

    make = guarded_factory(Told, seconds=0.2, sums=sums)
    env = make()
    reward = EnvironmentReward(
        (lambda environments, **_: [each.get_reward() for each in environments]) if sums else None
    )
    reward.seconds = 0.2
    for count in (3, 4, 9):
        env.reset()
        env.step(by=count)
        given = {"completions": [said(("step", {}))], "environments": [env]}
        expected = count / 10 if count < 9 else None
        assert reward([], **given) == [expected]
        assert reward.turn_rewards([], **given) == [None if expected is None else {0: expected}]
        assert reward.turn_rewards([], **given) == [None if expected is None else {0: expected}]
    assert asked == [3, 4, 9] and notes_of(env).fault[0] == "timeout"


def test_what_is_asked_within_a_call_is_not_what_the_rollout_ends_with():
    class Inward(Counter):
        def step(self, by: int) -> str:
            """Moves.

            Args:
                by: how far.
            """
            before = sum(self.turn_rewards())
            super().step(by)
            return str(before)

        def turn_rewards(self):
            return list(self.rewards)

    env = guard_environment(Inward(), 1.0)
    env.reset()
    shown = [env.step(by=1), env.step(by=2)]
    reward = EnvironmentReward()
    given = {"completions": [said(("step", {}), ("step", {}))], "environments": [env]}
    reward([], **given)
    assert shown == ["0", "0.1"] and reward.turn_rewards([], **given) == [{0: 0.1, 1: 0.2}]
