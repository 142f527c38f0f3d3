"""Whether a tokenizer can hold a conversation with tool calls, asked before the model is loaded."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import get_json_schema
from trl import chat_template_utils

from tasks.base import Task
from tasks.environments.guarded import tool_names

TOOLS_NEED = (
    "A tool needs type hints, and a docstring that says what it does and, under `Args:`, what each parameter is."
)


def check_tool_calls(task: Task, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Does nothing for a task without tools.

    Raises:
        ValueError: the chat template does not render calls and answers, or nothing says how calls are read back.
    """
    if not task.tools and task.environment is None:
        return
    remedy = (
        "Choose a model that was trained to call tools (Qwen3, Llama 3.1, ...), or give model.chat_template=FILE with one that "
        "renders `tool_calls` and messages of the role `tool`."
    )
    if tokenizer.chat_template is None:
        raise ValueError(f"model.name={name} has no chat template, and task {task.name} calls tools. {remedy}")
    supports: Any = getattr(chat_template_utils, "supports_tool_calling", None)
    if supports is not None and not supports(tokenizer):
        raise ValueError(
            f"The chat template of model.name={name} does not render tool calls and their answers. {remedy}"
        )
    if any(getattr(tokenizer, known, None) for known in ("response_template", "response_schema")):
        return
    add: Any = getattr(chat_template_utils, "add_response_schema", None)
    try:
        if add is not None:
            add(tokenizer)
    except ValueError as error:
        raise ValueError(
            f"Nothing says how tool calls of model.name={name} are read back: its tokenizer has no `response_template`, and TRL does "
            f"not know its chat template ({error}). {remedy}"
        ) from error


def check_schemas(environment: Any) -> None:
    """Raises ValueError where a tool of an environment cannot be shown to a model: no docstring, or a parameter without a type hint or
    a description."""
    kind = type(environment)
    for name in tool_names(kind):
        try:
            get_json_schema(getattr(environment, name))
        except Exception as error:
            raise ValueError(
                f"Tool {name} of environment {kind.__name__}: {str(error).rstrip('.!')}. {TOOLS_NEED} A method that is no tool gets a "
                "name that begins with _."
            ) from error
