"""Tools of the command line: functions by name, with what TRL needs to show them to a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from accelerate import PartialState
from transformers.utils import get_json_schema

from configs.compose import ConfigError
from rewards.load import named
from tasks.base import Task
from tasks.environments.arguments import cannot_be_called
from tasks.environments.guarded import tool_names
from trainers.model.tool_calls import TOOLS_NEED, check_schemas
from trainers.seam.environments import trl_takes


def build_tools(names: Sequence[str]) -> list[Callable]:
    """The functions of `tools=[my_tools.py:search]`.

    Raises:
        ConfigError: no such function, two of one name, or one without type hints or a docstring for its parameters.
    """
    found: dict[str, Callable] = {}
    for name in names:
        try:
            tool = named(name)
        except ValueError as error:
            raise ConfigError(f"tools: {error}") from error
        if not inspect.isroutine(tool):
            what = "a class" if inspect.isclass(tool) else type(tool).__name__
            raise ConfigError(f"tools: {name} is {what}, not a function. An environment is played by task=environment.")
        if (why := cannot_be_called(tool)) is not None:
            raise ConfigError(f"tools: {name} {why}.")
        try:
            get_json_schema(tool)
        except Exception as error:
            raise ConfigError(f"tools: {name}: {str(error).rstrip('.!')}. {TOOLS_NEED}") from error
        if tool.__name__ in found:
            raise ConfigError(f"tools: two functions are called {tool.__name__}; the policy could not tell them apart.")
        found[tool.__name__] = tool
    return list(found.values())


def check_tools(task: Task, args: Any) -> None:
    """Raises ConfigError where this TRL cannot play what the task asks for, or a model could not be shown a tool of the environment;
    says which setting has no effect without tools."""
    if not task.tools and task.environment is None and getattr(args, "max_tool_calling_iterations", None):
        PartialState().print(
            "trainer.max_tool_calling_iterations does nothing without tools: tools=[my_tools.py:search], or a task with an environment."
        )
    for wanted, argument, what in (
        (task.tools, "tools", "tools=[...]"),
        (task.environment, "environment_factory", f"task {task.name}, an environment,"),
    ):
        if wanted and not trl_takes(argument):
            raise ConfigError(f"{what} needs a TRL whose GRPOTrainer has `{argument}` (1.16 does): pip install -U trl.")
    if task.tools and any(isinstance(row["prompt"], str) for row in (*task.train, *task.evaluation)):
        raise ConfigError(
            f"tools are called in conversations, and prompts of task {task.name} are plain texts: task.chat=true makes chats of them, "
            "or give messages."
        )
    if task.environment is not None:
        played = task.environment()
        try:
            check_schemas(played)
        except ValueError as error:
            raise ConfigError(f"task: {error}") from error
        if both := sorted({tool.__name__ for tool in task.tools} & set(tool_names(type(played)))):
            raise ConfigError(
                f"tools: the environment of task {task.name} has a tool {both[0]}, too; call yours otherwise."
            )
