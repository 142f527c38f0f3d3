"""Prompts as token ids, and token ids as text, the way training makes them."""

from __future__ import annotations


def prompt_ids(prompt, tokenizer) -> list[int]:
    """Plain text with the tokenizer's own special tokens; chats by the template, ready for an answer."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def spoken(tokenizer, tokens: list[int]) -> str:
    """The text without special tokens."""
    return tokenizer.decode(tokens, skip_special_tokens=True)
