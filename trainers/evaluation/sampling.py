"""Completions that depend on the seed, the prompt and nothing else: not on the batch, the process or the other prompts.

TRL calls `model.generate`, which draws a whole batch from one stream of random numbers. Here every completion has a stream of
its own, named by seed, prompt and its place among the completions of that prompt, and each token is where the stream's next
number falls among the probabilities (inversion of the distribution function). Two models meet the same numbers, which
makes their difference on a prompt less noisy.

Shapes: N rows of a batch, L tokens so far, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tasks.base import prompt_key


def stream_of(seed: int, prompt: Any, sample: int) -> np.random.Generator:
    """The random numbers of one completion."""
    name = f"{seed}\0{prompt_key(prompt)}\0{sample}"
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")))


class ByInversion(LogitsProcessor):
    """Leaves one token to choose in each row.

    Args:
        uniforms_NL: a number in [0, 1) for every token to come.
        before: what shapes the distribution first (temperature, top-p).
    """

    def __init__(self, uniforms_NL: Tensor, before: Sequence[LogitsProcessor] = ()):
        self._uniforms_NL, self._before, self._start = uniforms_NL, before, -1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._start < 0:
            self._start = input_ids.shape[1]
        for processor in self._before:
            scores = processor(input_ids, scores)  # type: ignore[arg-type]
        mass_NV = scores.double().softmax(-1).cumsum(-1)
        drawn_N1 = self._uniforms_NL[:, input_ids.shape[1] - self._start, None].to(mass_NV.device) * mass_NV[:, -1:]
        token_N1 = torch.searchsorted(mass_NV, drawn_N1, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token_N1, 0.0)


@contextmanager
def drawn_from(model: Any, streams: Sequence[np.random.Generator] | None) -> Iterator[None]:
    """Inside, `model.generate(..., generation_config=...)` draws row i from the i-th stream; None: takes the likeliest token."""
    plain = model.generate

    def generate(*args: Any, generation_config: Any, **kwargs: Any) -> Any:
        config = copy.deepcopy(generation_config)
        shapers = shapers_of(config)
        config.do_sample = False
        config.temperature = config.top_k = config.top_p = config.min_p = None
        if streams is not None:
            uniforms = np.stack([stream.random(config.max_new_tokens) for stream in streams])
            kwargs["logits_processor"] = LogitsProcessorList([ByInversion(torch.from_numpy(uniforms), shapers)])
        return plain(*args, generation_config=config, **kwargs)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate


def shapers_of(config: Any) -> list[LogitsProcessor]:
    """Temperature, top-k, top-p and min-p of a generation config, in the order of transformers."""
    found: list[LogitsProcessor] = []
    if config.temperature not in (None, 1.0):
        found.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        found.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        found.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        found.append(MinPLogitsWarper(config.min_p))
    return found
