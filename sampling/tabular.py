"""A language model as a table: one row of logits per prefix. Small enough to enumerate, so samplers can be checked.

Shapes: C prefixes, M rows kept by `reorder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class TabularState:
    table_N: Tensor  # which prompt's table
    tokens_NT: Tensor  # the prefix, in the place of a KV cache


class TabularModel:
    """logits_PCV[p, c] are the logits after prompt p and prefix c, in double.

    Prefixes are numbered breadth-first: the empty one is 0, and prefix c followed by token v is c * V + v + 1. C must
    cover every prefix of up to `max_length - 1` tokens. A prompt is a list with one token, its table's number.
    """

    def __init__(self, logits_PCV: Tensor, eos_ids: Sequence[int] = (0,)):
        self.logits_PCV = logits_PCV.double()
        self.vocab_size = logits_PCV.shape[-1]
        self.eos_ids = tuple(eos_ids)

    @classmethod
    def random(cls, vocab_size: int, max_length: int, prompts: int = 1, scale: float = 1.5, seed: int = 0):
        """Independent normal logits of the given scale for every prefix; token 0 ends the text."""
        generator = torch.Generator().manual_seed(seed)
        shape = (prompts, prefixes(vocab_size, max_length), vocab_size)
        return cls(scale * torch.randn(shape, generator=generator, dtype=torch.float64))

    def start(self, prompts):
        table_P = torch.tensor([prompt[0] for prompt in prompts])
        return self._read(TabularState(table_P, table_P.new_empty(len(table_P), 0)))

    def step(self, state, tokens_N):
        return self._read(TabularState(state.table_N, torch.cat([state.tokens_NT, tokens_N[:, None]], 1)))

    def reorder(self, state, index_M):
        return TabularState(state.table_N[index_M], state.tokens_NT[index_M])

    def crop(self, state, length):
        return TabularState(state.table_N, state.tokens_NT[:, :length])

    def merge(self, state, other, take_other_N):
        width = max(state.tokens_NT.shape[1], other.tokens_NT.shape[1])
        mine, theirs = (F.pad(s.tokens_NT, (0, width - s.tokens_NT.shape[1])) for s in (state, other))
        return TabularState(state.table_N, torch.where(take_other_N[:, None], theirs, mine))

    def check(self, prompts, max_length):
        if prefixes(self.vocab_size, max_length) > self.logits_PCV.shape[1]:
            raise ValueError(f"The table has no logits for texts of {max_length} tokens; lower max_length.")
        if any(len(prompt) != 1 or not 0 <= prompt[0] < len(self.logits_PCV) for prompt in prompts):
            raise ValueError(f"A prompt of a tabular model is one number below {len(self.logits_PCV)}.")

    def _read(self, state):
        return state, self.logits_PCV[state.table_N, prefix_index(state.tokens_NT, self.vocab_size)]


def prefix_index(tokens_NT: Tensor, vocab_size: int) -> Tensor:
    """(N,) numbers of the prefixes that the rows spell out."""
    number_N = tokens_NT.new_zeros(len(tokens_NT))
    for tokens_N in tokens_NT.T:
        number_N = number_N * vocab_size + tokens_N + 1
    return number_N


def prefixes(vocab_size: int, max_length: int) -> int:
    """Number of prefixes of 0 to max_length - 1 tokens."""
    return sum(vocab_size**length for length in range(max_length))
