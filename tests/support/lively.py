"""A reward under which even the smallest model has something to learn."""

from __future__ import annotations


def lively(prompts, completions, **columns):
    """Share of digits in the completion: other completions, other rewards."""
    return [sum(letter.isdigit() for letter in text) / max(1, len(text)) for text in completions]
