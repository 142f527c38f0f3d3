"""Making guarded environments, one for each rollout: what is refused before the first, and what a failure costs after it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rewards.guard.clock import run_within
from tasks.environments.arguments import cannot_be_called
from tasks.environments.guarded import guard_environment, tool_names
from tasks.environments.notes import notes_of


def guarded_factory(
    factory: Any, seconds: float | None = 30.0, sums: bool = False, check: Callable[[Any], None] | None = None
) -> Any:
    """The factory (or each of a mapping of them), whose environments are guarded. Where it fails after the first environment, the
    rows of the one that could not be made are faults, every time, and the run goes on.

    Args:
        seconds: one call may take, and each environment after the first to be made; None: no limit.
        sums: an environment without `get_reward` pays the sum of what its turns earned.
        check: what else the first environment is asked for; raises ValueError.

    Raises:
        ValueError: no factory; later, when it is called, one that gives the same object twice, or whose tools cannot be called.
    """
    if isinstance(factory, Mapping):
        return {name: guarded_factory(each, seconds, sums, check) for name, each in factory.items()}
    if not callable(factory):
        raise ValueError(
            f"environment_factory is {type(factory).__name__}, not a class or a function that makes an environment, or a dict of them."
        )
    made: list[Any] = []

    def make() -> Any:
        try:
            environment = run_within(seconds, factory) if made else factory()
        except (Exception, SystemExit) as error:
            if not made:
                raise
            return _stillborn(type(made[-1]), error)
        if made and environment is made[-1]:
            raise ValueError(
                f"environment_factory gives the same {type(environment).__name__} twice; each rollout needs one of its own. Give the "
                "class, or a function that makes a new one."
            )
        if not made:
            check_tools_of(environment)
            if check is not None:
                check(environment)
        made[:] = [environment]
        return guard_environment(environment, seconds, sums=sums)

    return make


def _stillborn(kind: type, error: BaseException) -> Any:
    """Stands for an environment that could not be made: all its rollouts are faults."""
    environment = object.__new__(kind)
    notes_of(environment).stillborn = f"it could not be made: {error!r:.200}"
    return environment


def check_tools_of(environment: Any) -> None:
    """Raises ValueError where a tool could never be called, or `reset` would not run."""
    kind = type(environment)
    for name in tool_names(kind):
        if (why := cannot_be_called(getattr(kind, name))) is not None:
            raise ValueError(f"Tool {name} of environment {kind.__name__} {why}.")
        if not callable(getattr(environment, name, None)):
            raise ValueError(
                f"Environment {kind.__name__} has a tool and an attribute of one name, {name}: the policy could not call it. Rename one."
            )
    if inspect.iscoroutinefunction(getattr(kind, "reset", None)):
        raise ValueError(
            f"reset of environment {kind.__name__} is async, and TRL does not wait for it: make it a plain method."
        )
