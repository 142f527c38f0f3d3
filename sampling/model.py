"""What a sampler needs of a language model, and what the target is.

Shape suffixes: N rows (particles, chains), P prompts, S returned samples per prompt, T new tokens, V vocabulary,
M rows kept by `reorder`.

The target. A complete text is a sequence of new tokens that ends with an end-of-text token, or that has reached
`max_length` tokens without one; either way its probability is the product of the model's conditionals over the tokens
it has, the end token included. Those probabilities sum to 1, so `max_length` is part of the target, not an
approximation of it: a longer limit is another target. End tokens are absorbing: nothing follows, and Z_t = 1 from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

# Stands where a text has already ended.
PAD = -1


class Model(Protocol):
    """A causal language model with a state (a KV cache) that can be copied between rows and cut.

    A state belongs to its caller: `step` may change the state it is given and returns the one to go on with; `reorder`,
    `crop` and `merge` leave their arguments usable.
    """

    vocab_size: int
    eos_ids: tuple[int, ...]

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Tensor]:
        """Reads the prompts. Returns their state and the (P, V) logits of the first new token."""
        ...

    def step(self, state: Any, tokens_N: Tensor) -> tuple[Any, Tensor]:
        """Appends one token per row. Returns the state and the (N, V) logits of the next one. Rows whose text has ended
        are stepped with an arbitrary token and their logits are not read."""
        ...

    def reorder(self, state: Any, index_M: Tensor) -> Any:
        """Row m of the result continues row index_M[m]; rows may repeat or vanish, so this also expands and drops."""
        ...

    def crop(self, state: Any, length: int) -> Any:
        """Keeps the prompt and the first `length` new tokens of every row."""
        ...

    def merge(self, state: Any, other: Any, take_other_N: Tensor) -> Any:
        """Row by row, `other` where take_other_N is True and `state` elsewhere. They may differ in length; what the
        shorter one lacks is arbitrary."""
        ...

    def check(self, prompts: Sequence[Sequence[int]], max_length: int) -> None:
        """Raises ValueError if a prompt and `max_length` new tokens do not fit."""
        ...
