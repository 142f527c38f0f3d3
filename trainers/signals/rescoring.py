"""Other texts, scored by the run's own rewards for rows of the batch; and more of a text, written by the policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def completions_of(texts: Sequence[str | None], prompts: Sequence[Any]) -> list[Any]:
    """In the form in which reward functions get completions: texts, or an assistant's message where the prompt is a chat."""
    plain = ["" if text is None else text for text in texts]
    if prompts and isinstance(prompts[0], list):
        return [[{"role": "assistant", "content": text}] for text in plain]
    return plain


def weighted(rewards_BK: Tensor, weights_K: Tensor) -> Tensor:
    """(B,) as the run's own rewards are summed; NaN where every function abstained."""
    total_B = (rewards_BK * weights_K.to(rewards_BK)).nansum(dim=1)
    return total_B.masked_fill(rewards_BK.isnan().all(dim=1), torch.nan)


def check_texts(texts: Sequence[Any], rows: int) -> None:
    """Raises ValueError: not one text or None for each row."""
    if len(texts) != rows:
        raise ValueError(f"{len(texts)} texts for {rows} rows: there must be one for each, None where there is none.")
    if wrong := next((text for text in texts if text is not None and not isinstance(text, str)), None):
        raise ValueError(f"a text must be a str or None, got {type(wrong).__name__}.")


def written_after(generate: Callable, prefixes: Sequence[Sequence[int]], most: Sequence[int]) -> list[list[int]]:
    """What the policy writes after these token ids, each cut to its own number of tokens. `generate`: TRL's
    `_generate_single_turn`, which takes one argument more in newer versions."""
    more = [1] if "num_generations" in inspect.signature(generate).parameters else []
    completions, _ = generate([list(ids) for ids in prefixes], None, {}, *more)
    return [list(ids)[:limit] for ids, limit in zip(completions, most, strict=True)]
