"""What each turn of a rollout earned, from what its environment noted."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.guard.clock import run_within
from rewards.text.turns import turns_of
from tasks.environments.guarded import told_once, tool_names
from tasks.environments.notes import notes_of, spoil


class EnvironmentReward:
    """The reward that environments pay, and what was earned in each turn.

    Without `get_reward` the reward is the sum over the turns. With it, what the turns do not add up to falls on the last turn.
    A row whose environment went wrong is not scored.

    Args:
        pays: `f(environments, **columns) -> numbers`; TRL's own function of `get_reward`. None: ask the environments here.
        name: in the logs.
        seconds: one environment may take; None: no limit.
    """

    knows_turns = True  # it is noted as the conversation goes

    def __init__(self, pays: Any = None, name: str = "environment", seconds: float | None = 30.0):
        self.pays, self.__name__, self.seconds = pays, name, seconds

    def __call__(self, prompts: list, completions: list, environments: Sequence[Any] = (), **columns: Any) -> list:
        if len(environments) != len(completions):
            raise ValueError("This reward is paid by environments: set task=environment, or give environment_factory.")
        for environment in environments:
            notes_of(environment).told = None  # a rollout is scored anew
        paid = None if self.pays is None else _awaited(self.pays(environments=environments, **columns), environments)
        scores: list[float | None] = []
        for row, (environment, completion) in enumerate(zip(environments, completions, strict=True)):
            if notes_of(environment).fault is not None:  # said and counted where it went wrong
                scores.append(None)
                continue
            method = getattr(environment, "get_reward", None)
            own = paid[row] if paid is not None else _awaited(method(), [environment]) if callable(method) else None
            earned = self._earned(environment, completion)  # asked last: get_reward may add to it
            if paid is None and not callable(method):
                own = None if earned is None else sum(earned.values())
            failed = notes_of(environment).fault is not None
            scores.append(None if failed else own)
        return scores

    def turn_rewards(self, prompts: list, completions: list, environments: Sequence[Any] = (), **columns: Any) -> list:
        """{turn: number} of each completion, None where its environment does not say."""
        return [self._earned(*each) for each in zip(environments, completions, strict=True)]

    def _earned(self, environment: Any, completion: Any) -> dict[int, float] | None:
        if notes_of(environment).fault is not None:
            return None
        try:
            return run_within(self.seconds, lambda: earned_by_turn(environment, completion))
        except Exception as error:
            kind = "timeout" if isinstance(error, TimeoutError) else "wrong_type"
            spoil(environment, kind, f"rewards by turn: {error}")
            return None


def earned_by_turn(environment: Any, completion: Any) -> dict[int, float] | None:
    """{turn: number} by the environment's `turn_rewards()` or `rewards`; None: it has neither.

    Raises:
        ValueError: a wrong number of them, or one that is no finite number.
    """
    turns = turns_of(completion)
    if callable(getattr(environment, "turn_rewards", None)):
        return _by_number(told_once(environment), len(turns), "turns")
    noted = getattr(environment, "rewards", None)
    if noted is None or callable(noted):
        return None
    if isinstance(noted, (list, tuple)) and not noted:
        return {}
    calls, grown = calls_by_turn(environment, completion), notes_of(environment).grown
    earned: dict[int, float] = {}
    if (
        isinstance(noted, (list, tuple))
        and set(grown) >= set(range(len(notes_of(environment).calls)))
        and any(grown.values())
    ):
        turn_of_entry = _as_it_grew(noted, calls, grown)
    else:  # A list made at the end, or by async calls: one that answers with a ValueError may be in it or not.
        all_of_them = isinstance(noted, (list, tuple)) and len(noted) == len(calls)
        turn_of_entry = [turn for turn, ran in calls if ran or all_of_them]
    for entry, value in _by_number(noted, len(turn_of_entry), "calls that ran", exactly=True).items():
        earned[turn_of_entry[entry]] = earned.get(turn_of_entry[entry], 0.0) + value
    return earned


def _as_it_grew(noted: Sequence, calls: list[tuple[int, bool]], grown: Mapping[int, int]) -> list[int]:
    """The turn of each entry of a list that was written call by call: one for each call that ran, else where it was written.

    Raises:
        ValueError: entries that came between the calls, or went.
    """
    if (written := sum(grown.values())) != len(noted) or min(grown.values()) < 0:
        raise ValueError(f"{len(noted)} rewards, of which {written} were noted by its calls; does reset() clear them?")
    ran = [turn for turn, did in calls if did]
    if len(noted) == len(ran):
        return ran
    return [turn for number, (turn, _) in enumerate(calls) for _ in range(grown[number])]


def calls_by_turn(environment: Any, completion: Any) -> list[tuple[int, bool]]:
    """(turn, whether it ran) of every call that reached the environment, in order."""
    tools, made = set(tool_names(type(environment))), notes_of(environment).calls
    asked = [turn for turn, name in calls_of(completion) if name in tools]
    return [(turn, ran) for turn, (_, ran) in zip(asked, made, strict=False)]


def calls_of(completion: Any) -> list[tuple[int, str]]:
    """(turn, name) of every call that TRL makes of a completion: a function's, with a mapping of arguments. Others it answers
    itself."""
    found, turn = [], -1
    for message in completion if isinstance(completion, list) else ():
        if message.get("role") != "assistant":
            continue
        turn += 1
        for call in message.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, Mapping) and call.get("type") == "function" else None
            if isinstance(function, Mapping) and isinstance(function.get("arguments"), Mapping):
                found.append((turn, str(function.get("name", ""))))
    return found


def states_by_turn(environment: Any, completion: Any) -> list[int] | None:
    """The environment's state key when each turn began; None where it has no `state_key()`."""
    states = notes_of(environment).states
    if not states:
        return None
    calls = calls_by_turn(environment, completion)
    before = [sum(turn < k for turn, _ in calls) for k in range(len(turns_of(completion)))]
    return [states[min(number, len(states) - 1)] for number in before]


def _by_number(values: Any, number: int, what: str, exactly: bool = False) -> dict[int, float]:
    if isinstance(values, Mapping):
        pairs = dict(values)
    elif isinstance(values, (list, tuple)):
        pairs = dict(enumerate(values))
        if len(values) > number or (exactly and len(values) < number):
            raise ValueError(f"{len(values)} rewards for {number} {what}; does reset() clear them?")
    else:
        raise ValueError(f"rewards are {type(values).__name__}; give a list or {{number: value}}.")
    result = {}
    for place, value in pairs.items():
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < number:
            raise ValueError(f"a reward for number {place!r} of {number} {what}.")
        result[place] = 0.0 if value is None else float(value)
        if not math.isfinite(result[place]):
            raise ValueError(f"the reward of number {place} is {value!r}.")
    return result


def _awaited(value: Any, environments: Sequence[Any]) -> Any:
    """The value; of an async function the result, on the loop on which the environments' tools ran, if there is one."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    loops = [loop for environment in environments if (loop := notes_of(environment).loop) is not None]
    if loops and loops[0].is_running():
        return asyncio.run_coroutine_threadsafe(wait(), loops[0]).result()
    return asyncio.run(wait())
