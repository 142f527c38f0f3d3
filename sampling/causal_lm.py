"""Transformers causal language models as a `Model`: one KV cache, reordered by index select and cut by slicing.

transformers is imported lazily: the samplers' mathematics runs without it.

Shapes: L tokens so far, prompt and padding included; M rows kept by `reorder`.
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
    cache: Any  # transformers.DynamicCache of full-attention layers; left padding included
    attention_NL: Tensor  # 1 on prompt tokens and on every new one, 0 on left padding
    position_N1: Tensor  # position of the next token
    new_tokens: int  # stepped so far


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
        parameters = inspect.signature(type(_innermost(model)).forward).parameters
        # Its name in newer transformers, which will drop the old one.
        self._cache = "cache" if "cache" in parameters else "past_key_values"
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
        # Without a config every layer is a full one: sliding-window layers keep their mask but stay sliceable.
        cache = DynamicCache()
        logits = self._forward(ids, attention, positions, cache)
        return CausalLMState(cache, attention, positions[:, -1:] + 1, 0), logits

    @torch.no_grad()
    def step(self, state, tokens_N):
        attention = F.pad(state.attention_NL, (0, 1), value=1)
        logits = self._forward(tokens_N[:, None], attention, state.position_N1, state.cache)
        return CausalLMState(state.cache, attention, state.position_N1 + 1, state.new_tokens + 1), logits

    def reorder(self, state, index_M):
        cache = _rebuilt(lambda values: values.index_select(0, index_M.to(values.device)), state.cache)
        return CausalLMState(cache, state.attention_NL[index_M], state.position_N1[index_M], state.new_tokens)

    def crop(self, state, length):
        removed = state.new_tokens - length
        kept = state.attention_NL.shape[1] - removed
        cache = _rebuilt(lambda values: values[..., :kept, :], state.cache)
        return CausalLMState(cache, state.attention_NL[:, :kept], state.position_N1 - removed, length)

    def merge(self, state, other, take_other_N):
        longer = other if other.new_tokens > state.new_tokens else state

        def choose(mine, theirs):
            width = max(mine.shape[-2], theirs.shape[-2])
            mine, theirs = (F.pad(values, (0, 0, 0, width - values.shape[-2])) for values in (mine, theirs))
            return torch.where(take_other_N.view(-1, 1, 1, 1).to(mine.device), theirs, mine)

        cache = _rebuilt(choose, state.cache, other.cache)
        return CausalLMState(cache, longer.attention_NL, longer.position_N1, longer.new_tokens)

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

    def _forward(self, ids, attention, positions, cache) -> Tensor:
        positions = {"position_ids": positions} if self._takes_positions else {}
        output = self.model(
            input_ids=ids,
            attention_mask=attention,
            use_cache=True,
            **{self._cache: cache},
            **positions,
            **self._one_logit,
        )
        if getattr(output, self._cache, None) is not cache or not all(_is_full(layer) for layer in cache.layers):
            raise ValueError(
                f"{type(_innermost(self.model)).__name__} does not keep a plain key-value cache (a recurrent or otherwise "
                "special state cannot be cut or merged). Use a decoder with ordinary attention."
            )
        return output.logits[:, -1]


def _rebuilt(change, cache, *others):
    """A cache of new layers with `change` applied to the keys and to the values; the old one stays as it is."""
    new = copy.copy(cache)
    new.layers = []
    for layer, *more in zip(cache.layers, *(other.layers for other in others), strict=True):
        made = copy.copy(layer)
        made.keys = change(layer.keys, *(other.keys for other in more))
        made.values = change(layer.values, *(other.values for other in more))
        new.layers.append(made)
    return new


def _is_full(layer) -> bool:
    from transformers.cache_utils import DynamicLayer

    return type(layer) is DynamicLayer


def _innermost(model):
    """The transformers model inside a PEFT wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _end_tokens(model, tokenizer) -> list[int]:
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    own = getattr(tokenizer, "eos_token_id", None)
    return ends + ([own] if own is not None else [])
