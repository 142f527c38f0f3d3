"""Which tokens end a text."""

from __future__ import annotations

from typing import Any


def ends_of(trainer: Any) -> set[int | None]:
    """The last tokens of a text that ended by itself, as TRL counts them: 1.16 knows several ends, older ones the tokenizer's."""
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return {*getattr(trainer, "eos_token_ids", [tokenizer.eos_token_id]), tokenizer.pad_token_id}
