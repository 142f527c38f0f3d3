"""Prompts as token ids, and token ids as text, the way training makes them; and what a prompt leaves open.

A chat that ends with a message of the assistant is to be continued (a prefill), neither closed nor answered by a further
message. TRL's trainers close it; `continuing` makes them continue it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

# Openings and closings in the three spellings that models use: <think>, [THINK], and Kimi's triangles.
_TAG = re.compile(
    r"<(/?)([A-Za-z][\w:.-]*)>|\[(/?)([A-Z][A-Z_]*)\]|\N{WHITE LEFT-POINTING TRIANGLE}(/?)(\w+)\N{WHITE RIGHT-POINTING TRIANGLE}"
)
# A plain prompt leaves a tag open where it ends with it, and the tag stands alone in its line or after a speaker's mark.
_LAST_TAG = re.compile(r"(?:^|[\n:>\]])[ \t]*((?:<[A-Za-z][\w:.-]*>|\[[A-Z][A-Z_]*\])\s*)\Z")
_WORDS = "the words of an answer"


def prompt_ids(prompt: Any, tokenizer: Any, **template: Any) -> list[int]:
    """Plain text with the tokenizer's own special tokens; chats by the template, ready for an answer.

    template: arguments of the chat template, such as enable_thinking=False.
    """
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer(chat_text(prompt, tokenizer, **template), add_special_tokens=False)["input_ids"]


def chat_text(messages: list, tokenizer: Any, **template: Any) -> str:
    """A chat as text, ready for an answer, or for the rest of one."""
    return tokenizer.apply_chat_template(messages, tokenize=False, **_end_of(messages), **template)


def is_prefilled(prompt: Any) -> bool:
    """Whether it is a chat that ends with the beginning of an answer."""
    return isinstance(prompt, list) and bool(prompt) and prompt[-1].get("role") == "assistant"


def spoken(tokenizer: Any, tokens: list[int]) -> str:
    """The text without special tokens."""
    return tokenizer.decode(tokens, skip_special_tokens=True)


def opened_by(prompt: Any, tokenizer: Any, **template: Any) -> str:
    r"""What the prompt has already written of the answer, where that leaves a tag open: "<think>\n" where the template
    opens it (DeepSeek-R1, Qwen3's thinking models), or "<think>a</think><answer>" of a prefill. "" where nothing is left
    open, also where the template opens and closes a tag (Qwen3 with enable_thinking=False).

    A tag that a template leaves open in front of every answer that it renders marks a speaker, and does not count.
    """
    if isinstance(prompt, str):
        found = _LAST_TAG.search(prompt)
        return found.group(1) if found else ""
    asked = prompt[:-1] if is_prefilled(prompt) else prompt
    before = _rendered(asked, tokenizer, template) if asked else ""
    turn = _behind(before, chat_text(prompt, tokenizer, **template))
    answer = [{"role": "assistant", "content": _WORDS}, {"role": "user", "content": "."}]
    spoken_turn = _behind(before, _rendered([*asked, *answer], tokenizer, template))
    marks = _left_open(spoken_turn.partition(_WORDS)[0])
    if not set(_left_open(turn)) - set(marks):
        return ""
    start = min((tag.start() for tag in _TAG.finditer(turn) if _name(tag) not in marks), default=len(turn))
    content = prompt[-1]["content"] if is_prefilled(prompt) else None
    begins = content is None or not isinstance(content, str) or _TAG.match(content.lstrip()) is not None
    return turn[start:] if begins else ""


def opening_tags(text: str) -> list[str]:
    """The tags themselves, as written."""
    return [tag.group() for tag in _TAG.finditer(text) if not _closes(tag)]


class Openings:
    """`opened_by` for many prompts, each distinct one once."""

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] | None = None):
        self._tokenizer, self._template, self._known = tokenizer, dict(template or {}), {}

    def __call__(self, prompt: Any) -> str:
        key = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=repr)
        if key not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            self._known[key] = self._asked(prompt)
        return self._known[key]

    def _asked(self, prompt: Any) -> str:
        if not isinstance(prompt, str) and getattr(self._tokenizer, "chat_template", None) is None:
            return ""
        try:
            return opened_by(prompt, self._tokenizer, **self._template)
        except (
            Exception
        ):  # a template that takes no such chat: its own refusal comes where the prompt itself is rendered
            return ""


@contextmanager
def continuing(tokenizer: Any) -> Iterator[None]:
    """Inside, the tokenizer's `apply_chat_template` continues chats that end with an assistant's message, where it is asked
    to add a generation prompt; and the text of an answer to such a chat is put behind that beginning."""
    tokenizer.apply_chat_template = partial(_Continued(), type(tokenizer).apply_chat_template, tokenizer)
    try:
        yield
    finally:
        del tokenizer.apply_chat_template


class _Continued:
    """One template call, or one per chat where some of a batch are to be continued."""

    def __init__(self):
        self._begun: list | None = None  # the chat whose answer comes next

    def __call__(self, render: Any, tokenizer: Any, conversation: Any, *args: Any, **options: Any) -> Any:
        if conversation and isinstance(conversation[0], list):
            return self._batch(render, tokenizer, conversation, *args, **options)
        if options.get("add_generation_prompt"):
            if is_prefilled(conversation):
                self._begun = conversation
                options |= _end_of(conversation)
        elif self._begun is not None and conversation[:-1] == self._begun and is_prefilled(conversation):
            begun, rest = self._begun[-1], conversation[-1]
            conversation = [*self._begun[:-1], {**begun, **rest, "content": begun["content"] + rest["content"]}]
        return render(tokenizer, conversation, *args, **options)

    def _batch(self, render: Any, tokenizer: Any, conversations: list, *args: Any, **options: Any) -> Any:
        if not (options.get("add_generation_prompt") and any(map(is_prefilled, conversations))):
            return render(tokenizer, conversations, *args, **options)
        parts = [render(tokenizer, [chat], *args, **(options | _end_of(chat))) for chat in conversations]
        if isinstance(parts[0], list):
            return [one for part in parts for one in part]
        return {key: [one for part in parts for one in part[key]] for key in parts[0]}


def _end_of(messages: list) -> dict[str, bool]:
    prefilled = is_prefilled(messages)
    return {"add_generation_prompt": not prefilled, "continue_final_message": prefilled}


def _rendered(messages: list, tokenizer: Any, template: Mapping[str, Any]) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False, **template)
    except Exception:  # some templates take no such chat
        return ""


def _behind(before: str, text: str) -> str:
    """The text without what it has in common with the beginning."""
    end = next((i for i, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), min(len(before), len(text)))
    return text[end:]


def _left_open(text: str) -> list[str]:
    names: list[str] = []
    for tag in _TAG.finditer(text):
        if not _closes(tag):
            names.append(_name(tag))
        elif _name(tag) in names:
            names.reverse()
            names.remove(_name(tag))
            names.reverse()
    return names


def _name(tag: re.Match) -> str:
    return tag.group(2) or tag.group(4) or tag.group(6)


def _closes(tag: re.Match) -> bool:
    return bool(tag.group(1) or tag.group(3) or tag.group(5))
