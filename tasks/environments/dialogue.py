"""How a closed vocabulary holds a conversation: what opens a turn, which tokens are tool calls, what ends a turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GO, TOOL, UNKNOWN = "<go>", "<tool>", "<unknown>"


@dataclass(frozen=True)
class Dialogue:
    """A whole call is one token, and ends the turn: a turn is one decision and cannot be ill-formed.

    Args:
        tool: the method that every call names.
        argument: its one parameter.
        values: the numbers that can be called with; `call(value)` is the token.
    """

    tool: str
    argument: str
    values: tuple[int, ...]

    @staticmethod
    def call(value: int) -> str:
        """The token of a call."""
        return f"<call>{value}</call>"

    @property
    def calls(self) -> tuple[str, ...]:
        """All tokens that are calls; with the end of text they end a turn."""
        return tuple(self.call(value) for value in self.values)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What the conversation itself needs."""
        return (UNKNOWN, GO, TOOL, *self.calls)

    @property
    def chat_template(self) -> str:
        """Jinja: messages one after the other, `GO` before a turn of the policy."""
        call = "<call>{{ call.function.name }}{{ call.function.arguments | tojson }}</call>"
        calls = "{% for call in message.tool_calls %}" + call + "{% endfor %}"
        return (
            "{% for message in messages %}"
            f"{{% if message.role == 'tool' %}}{TOOL}{{{{ message.content }}}}"
            f"{{% elif message.tool_calls %}}{calls}"
            "{% else %}{{ message.content }}{% endif %}{% endfor %}"
            f"{{% if add_generation_prompt %}}{GO}{{% endif %}}"
        )

    @property
    def response_template(self) -> dict[str, Any]:
        """How transformers (>= 5.13) reads a turn back: its text, and its calls."""
        function = {"name": self.tool, "arguments": {self.argument: "{content}"}}
        return {
            "defaults": {"role": "assistant"},
            "start_anchor": GO,
            "fields": {
                "tool_calls": {
                    "open": "<call>",
                    "close_pattern": "</call>",
                    "content": "json",
                    "repeats": True,
                    "transform": {"type": "function", "function": function},
                },
                "content": {"content": "text"},
            },
        }
