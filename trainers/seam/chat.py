"""Chats on their way through TRL: answers that a prompt has begun are continued, and rewards hear what a prompt opened."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from rewards.text.opened import COLUMN
from trainers.model.prompts import Openings, continuing, is_prefilled


class ChatPrompts:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    _openings: Openings | None = None

    def _tokenize_prompts(self, prompts: list):
        if not any(map(is_prefilled, prompts)) or not isinstance(self.processing_class, PreTrainedTokenizerBase):
            return super()._tokenize_prompts(prompts)
        with continuing(self.processing_class):
            return super()._tokenize_prompts(prompts)

    def _with_openings(self, inputs: list[dict[str, Any]], prompts: list) -> list[dict[str, Any]]:
        """The rows with one column more, which every reward gets: what the prompt has opened."""
        if not isinstance(getattr(self, "processing_class", None), PreTrainedTokenizerBase) or COLUMN in inputs[0]:
            return inputs
        if self._openings is None:
            template = dict(getattr(self, "chat_template_kwargs", None) or {})
            if (own := getattr(self, "chat_template", None)) is not None:
                template["chat_template"] = own
            self._openings = Openings(self.processing_class, template)
        return [row | {COLUMN: self._openings(prompt)} for row, prompt in zip(inputs, prompts, strict=True)]
