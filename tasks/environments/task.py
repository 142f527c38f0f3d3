"""A task from an environment of your own: what the policy plays with through tool calls.

accelerate launch train_grpo.py model=hf model.name=... task=environment task.environment=my_env.py:Game credit=turns
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any

from rewards.load import named
from tasks.base import Row, Task
from tasks.environments.earned import EnvironmentReward
from tasks.environments.factory import check_tools_of
from tasks.environments.guarded import guard_environment, tool_names
from tasks.environments.pays import may_pay
from tasks.jsonl import jsonl


def environment(
    environment: str,
    arguments: Mapping[str, Any] | None = None,
    path: str | list[str] | None = None,
    prompt: str = "",
    n_train: int = 1024,
    n_eval: int = 64,
    seed: int = 0,
    timeout: float | None = 30.0,
    name: str | None = None,
    **table: Any,
) -> Task:
    """A task whose rows begin conversations with an environment, and whose reward is what it pays.

    Args:
        environment: my_env.py:Game or my_package.Game: a class, or a function that makes one. It has `reset(**row)`, which may
            return text that joins the prompt; every public method with a docstring is a tool; see docs/credit/turns.md.
        arguments: what each is made with (task.arguments.size=4).
        path: rows to begin with, as task=jsonl reads them; all columns go to `reset`. null: conversations that differ by
            their column `seed`.
        prompt: the user's message where there is no path; what `reset` returns is put behind it.
        n_train, n_eval: conversations to train and to evaluate on, without a path.
        seed: of the data.
        timeout: seconds that one call of the environment may take; null: no limit.
        name: of the task; null: that of the environment.
        table: columns and parts of the data, with a path; see task=jsonl.

    Raises:
        ValueError: no such environment, one that does not begin, or that has no tools. One that pays nothing needs other reward
            functions; a run that has none is refused.
    """
    make = _factory(environment, dict(arguments or {}), timeout)
    tried = _tried(environment, make)
    kind = type(tried)
    name = name or kind.__name__.lower()
    shared: dict[str, Any] = dict(reward_funcs=[], reward_weights=[], environment=make)
    if may_pay(tried):
        reward = EnvironmentReward(name=kind.__name__, seconds=timeout)
        shared |= dict(reward_funcs=[reward], reward_weights=[1.0])
    else:
        shared["unrewarded"] = (
            f"task.environment={environment} makes {kind.__name__}, which pays nothing: give it get_reward() or turn_rewards(), let it "
            "note `self.rewards` from reset on, or give reward.funcs=[file.py:function]."
        )
    if path is not None:
        task = jsonl(path, name=name, seed=seed, **table)
        _check_reset(environment, tried, task.train[0])
        return _replaced(task, shared)
    if n_train < 1 or n_eval < 0:
        raise ValueError(f"task.n_train={n_train} must be at least 1, and task.n_eval={n_eval} at least 0.")
    rows = [row_of_seed(prompt, seed, number) for number in range(n_train + n_eval)]
    _check_reset(environment, tried, rows[0])
    return Task(name=name, train=rows[:n_train], evaluation=rows[n_train:], **shared)


def _check_reset(spec: str, tried: Any, row: Row) -> None:
    """Raises ValueError where `reset` does not take the columns of a row, all of which it gets."""
    try:
        inspect.signature(tried.reset).bind(**row)
    except TypeError as error:
        raise ValueError(
            f"task.environment={spec}: reset gets the columns {', '.join(row)} of every row, and cannot be called so: {error}. Write "
            "reset(self, ..., **row), which takes those that it does not name."
        ) from None
    except ValueError:
        pass  # a method of C, which says nothing of its arguments


def row_of_seed(prompt: str, seed: int, number: int) -> Row:
    """A conversation that differs from others by its column `seed`."""
    of_row = random.Random(f"environment {seed} {number}").randrange(2**53)
    return {"prompt": [{"role": "user", "content": prompt}], "seed": of_row}


def _replaced(task: Task, shared: dict[str, Any]) -> Task:
    for field, value in shared.items():
        setattr(task, field, value)
    # An environment speaks in messages; a plain text is the user's.
    for row in (*task.train, *task.evaluation):
        if isinstance(row["prompt"], str):
            row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    return task


def _factory(spec: str, arguments: dict[str, Any], timeout: float | None) -> Callable[[], Any]:
    made = named(spec)
    if not callable(made):
        raise ValueError(f"task.environment={spec} is {type(made).__name__}, not a class or a function that makes one.")
    try:
        inspect.signature(made).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"task.environment={spec} with task.arguments={arguments}: {error}.") from None
    except ValueError:
        pass  # a class of C, which says nothing of its arguments
    # Its `get_reward` is asked by the task's reward, which also knows the turns; TRL would add it a second time.
    return lambda: guard_environment(made(**arguments), timeout, pays_here=True)


def _tried(spec: str, make: Callable[[], Any]) -> Any:
    """One environment, to see that there can be any.

    Raises:
        ValueError: it cannot be made, or TRL could not use it.
    """
    try:
        tried = make()
    except Exception as error:
        raise ValueError(f"task.environment={spec} cannot be made: {error!r}.") from error
    if not callable(getattr(tried, "reset", None)):
        raise ValueError(
            f"task.environment={spec} makes {type(tried).__name__}, which has no reset(**row) to begin with."
        )
    if not tool_names(type(tried)):
        raise ValueError(
            f"task.environment={spec} makes {type(tried).__name__}, which has no tools: give it a public method with type hints and "
            "a docstring for each thing the policy may do."
        )
    check_tools_of(tried)
    return tried
