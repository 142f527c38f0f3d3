"""Transformers causal language models as a `Model`: one KV cache, reordered by index select and cut by slicing.

transformers is imported lazily: the samplers' mathematics runs without it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class CausalLMState:
    cache: Any  # transformers.DynamicCache
    attention_NL: Tensor  # 1 on prompt tokens and on every new one, 0 on left padding
    position_N1: Tensor  # position of the next token

    @property
    def new_tokens(self) -> int:
        return self.attention_NL.shape[1]


class CausalLM:
    """A transformers causal LM and its tokenizer's special tokens.

    Args:
        model: `PreTrainedModel`; put in evaluation mode. A PEFT model works, too.
        eos_ids: tokens that end a text; None: those of the model's generation config and of the tokenizer.
        pad_id: fills the left of shorter prompts; never attended to.
        tokenizer: only its `eos_token_id` and `pad_token_id` are read, where the arguments above are None.

    Raises:
        ValueError: neither model nor tokenizer names an end-of-text token.
    """

    def __init__(self, model, tokenizer=None, eos_ids: Sequence[int] | None = None, pad_id: int | None = None):
        self.model = model.eval()
        self.vocab_size = model.get_output_embeddings().weight.shape[0]
        found = list(eos_ids) if eos_ids is not None else _end_tokens(model, tokenizer)
        if not found:
            raise ValueError(
                "Neither the tokenizer nor the model's generation config names an end-of-text token, and without one no "
                "text is ever complete. Set `tokenizer.eos_token`, or pass eos_ids."
            )
        self.eos_ids = tuple(sorted(set(found)))
        padding = getattr(tokenizer, "pad_token_id", None) if pad_id is None else pad_id
        self.pad_id = self.eos_ids[0] if padding is None else padding
        parameters = inspect.signature(_innermost(model).forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._one_logit = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def start(self, prompts):
        from transformers import DynamicCache

        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p in prompts], device=self.device)
        attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        logits = self._forward(ids, attention, positions, cache)
        return CausalLMState(cache, attention, positions[:, -1:] + 1), logits

    @torch.no_grad()
    def step(self, state, tokens_N):
        attention = F.pad(state.attention_NL, (0, 1), value=1)
        logits = self._forward(tokens_N[:, None], attention, state.position_N1, state.cache)
        return CausalLMState(state.cache, attention, state.position_N1 + 1), logits

    def reorder(self, state, index_M):
        cache = _copied(state.cache, lambda values: values.index_select(0, index_M.to(values.device)))
        return CausalLMState(cache, state.attention_NL[index_M], state.position_N1[index_M])

    def crop(self, state, length):
        self._check_can_cut(state.cache)
        kept = state.attention_NL.shape[1] - (self._steps(state) - length)
        cache = _copied(state.cache, lambda values: values[..., :kept, :])
        removed = state.attention_NL.shape[1] - kept
        return CausalLMState(cache, state.attention_NL[:, :kept], state.position_N1 - removed)

    def merge(self, state, other, take_other_N):
        width = max(state.attention_NL.shape[1], other.attention_NL.shape[1])
        longer = other if other.attention_NL.shape[1] == width else state
        pad = {id(s): width - s.attention_NL.shape[1] for s in (state, other)}

        def choose(mine, theirs):
            mine = F.pad(mine, (0, 0, 0, pad[id(state)])) if pad[id(state)] else mine
            theirs = F.pad(theirs, (0, 0, 0, pad[id(other)])) if pad[id(other)] else theirs
            return torch.where(take_other_N.view(-1, 1, 1, 1).to(mine.device), theirs, mine)

        cache = copy.copy(state.cache)
        cache.layers = []
        for mine, theirs in zip(state.cache.layers, other.cache.layers, strict=True):
            layer = copy.copy(mine)
            layer.keys, layer.values = choose(mine.keys, theirs.keys), choose(mine.values, theirs.values)
            cache.layers.append(layer)
        return CausalLMState(cache, longer.attention_NL, longer.position_N1)

    def check(self, prompts, max_length):
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for place, prompt in enumerate(prompts):
            if len(prompt) == 0:
                raise ValueError(f"Prompt {place} has no tokens; a causal model needs at least one to start from.")
            if limit is not None and len(prompt) + max_length > limit:
                raise ValueError(
                    f"Prompt {place} has {len(prompt)} tokens and max_length={max_length} more are asked for, but the "
                    f"model's context is {limit}. Shorten the prompt or lower max_length to at most "
                    f"{max(0, limit - len(prompt))}."
                )
