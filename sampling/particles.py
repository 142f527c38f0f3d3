"""Rows that grow token by token from the token-tempered proposal q: the one loop every sampler shares.

The model's last token is stepped lazily, when its successor is needed. So a finished batch steps nothing for nothing,
and a cut at position k keeps the cached prompt and tokens 0..k-2 and steps token k-1 again for its logits: one token,
however long the kept part is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sampling.model import PAD, Model
from sampling.tempering import temper


class Particles:
    """N texts in progress, all cut or grown to the same position t (or ended before it).

    Attributes:
        tokens_NT: int64, PAD after the end. logps_NT, log_z_NT: log p of each token and log Z_t, 0 after the end.
        alive_N: texts that have neither ended nor reached `max_length`.
        t: position of the next token. spent: tokens drawn so far, discarded ones included, prompts not.

    Args:
        row_prompt_N: index into `prompts` of each row; each prompt is read once, whatever the number of its rows.
        keep_ended: keep the cache of ended rows, which a later `cut` needs. Otherwise they leave the batch.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        row_prompt_N: Tensor,
        max_length: int,
        alpha: float,
        keep_ended: bool = False,
    ):
        self.model, self.alpha, self.max_length, self.keep_ended = model, alpha, max_length, keep_ended
        state, self._prompt_logits_PV = model.start(prompts)
        self._row_prompt_N = row_prompt_N.to(self._prompt_logits_PV.device)
        self._state: Any = model.reorder(state, self._row_prompt_N)
        self._logits: Tensor | None = self._prompt_logits_PV[self._row_prompt_N]
        rows, device = len(row_prompt_N), self._prompt_logits_PV.device
        self._slot_N = torch.arange(rows, device=device)  # row of the state that carries each particle
        self._eos = torch.tensor(model.eos_ids, device=device)
        dtype = torch.promote_types(self._prompt_logits_PV.dtype, torch.float32)
        self.tokens_NT = torch.full((rows, max_length), PAD, dtype=torch.long, device=device)
        self.logps_NT = torch.zeros(rows, max_length, dtype=dtype, device=device)
        self.log_z_NT = torch.zeros_like(self.logps_NT)
        self.alive_N = torch.ones(rows, dtype=torch.bool, device=device)
        self.t, self.spent, self._state_rows = 0, 0, rows
        self._tempered: tuple | None = None

    @property
    def lengths_N(self) -> Tensor:
        return (self.tokens_NT != PAD).sum(1)

    @property
    def done(self) -> bool:
        return self.t >= self.max_length or not bool(self.alive_N.any())

    def next_log_z(self) -> Tensor:
        """(N,) log Z_t of the token about to be drawn; 0 for ended texts."""
        log_z = self._temper()[2]
        return torch.zeros_like(self.log_z_NT[:, 0]).masked_scatter(self.alive_N, log_z[self._slot_N[self.alive_N]])

    def advance(self, generator: torch.Generator | None = None) -> None:
        """Draws one token for every living row."""
        logps, log_q, log_z = self._temper()
        slots = self._slot_N[self.alive_N]
        drawn = torch.multinomial(log_q[slots].exp(), 1, generator=generator).squeeze(1)
        self.tokens_NT[self.alive_N, self.t] = drawn
        self.logps_NT[self.alive_N, self.t] = logps[slots, drawn]
        self.log_z_NT[self.alive_N, self.t] = log_z[slots]
        self.alive_N = self.alive_N & ~torch.isin(self.tokens_NT[:, self.t], self._eos)
        self.spent += len(drawn)
        self.t += 1
        self._logits = self._tempered = None

    def finish(self, generator: torch.Generator | None = None) -> Particles:
        """Draws until every text is complete."""
        while not self.done:
            self.advance(generator)
        return self

    def select(self, index_N: Tensor) -> None:
        """Row n becomes a copy of row index_N[n]: resampling. The cache follows by index select."""
        index_N = index_N.to(self._slot_N.device)
        for name in ("tokens_NT", "logps_NT", "log_z_NT", "alive_N", "_slot_N", "_row_prompt_N"):
            setattr(self, name, getattr(self, name)[index_N])
        self._gather(
            torch.arange(len(index_N), device=index_N.device) if self.keep_ended else self.alive_N.nonzero()[:, 0]
        )

    def drop(self, gone_N: Tensor) -> None:
        """Rows marked True leave the batch unfinished: their texts stop here and are never read again."""
        self.alive_N = self.alive_N & ~gone_N

    def cut(self, t: int) -> Particles:
        """A new batch that keeps the first t tokens of every row and shares their cache. `spent` starts at 0. Rows that
        ended before t stay ended."""
        if not self.keep_ended:
            raise ValueError("Only a batch that keeps its ended rows can be cut.")
        new = object.__new__(Particles)
        new.__dict__.update(self.__dict__)
        for name in ("tokens_NT", "logps_NT", "log_z_NT"):
            kept = getattr(self, name).clone()
            kept[:, t:] = PAD if name == "tokens_NT" else 0
            setattr(new, name, kept)
        new.alive_N = ~torch.isin(new.tokens_NT, self._eos).any(1) & (new.lengths_N >= t)
        new.t, new.spent, new._tempered = t, 0, None
        # The last kept token is stepped again: its logits were not stored.
        new._state = self.model.crop(self._state, max(t - 1, 0))
        new._logits = self._prompt_logits_PV[self._row_prompt_N] if t == 0 else None
        return new

    def take(self, other: Particles, accept_N: Tensor) -> None:
        """Rows marked True become those of `other`, their cache included."""
        for name in ("tokens_NT", "logps_NT", "log_z_NT"):
            setattr(self, name, torch.where(accept_N[:, None], getattr(other, name), getattr(self, name)))
        self.alive_N = torch.where(accept_N, other.alive_N, self.alive_N)
        self._state = self.model.merge(self._state, other._state, accept_N)
        self.t = max(self.t, other.t)
        self._logits = self._tempered = None

    def _temper(self) -> tuple[Tensor, Tensor, Tensor]:
        """log p, log q and log Z per row of the state, after stepping the last token if it still waits."""
        if self._logits is None:
            self._shrink()
            last = self.tokens_NT[:, self.t - 1].clamp(min=0)
            tokens = last.new_zeros(self._state_rows).index_copy_(0, self._slot_N[self._carried], last[self._carried])
            self._state, self._logits = self.model.step(self._state, tokens)
        if self._tempered is None:
            self._tempered = temper(self._logits, self.alpha)
        return self._tempered

    @property
    def _carried(self) -> Tensor:
        rows = torch.arange(len(self._slot_N), device=self._slot_N.device)
        return rows if self.keep_ended else rows[self.alive_N]

    def _shrink(self) -> None:
        """Lets ended rows leave the cache once they are a quarter of it."""
        if not self.keep_ended and int(self.alive_N.sum()) * 4 <= self._state_rows * 3:
            self._gather(self.alive_N.nonzero()[:, 0])

    def _gather(self, carried: Tensor) -> None:
        if len(carried) == 0:
            return
        slots = self._slot_N[carried]
        self._state = self.model.reorder(self._state, slots)
        if self._logits is not None:
            self._logits = self._logits[slots]
        self._tempered = None
        self._slot_N = torch.zeros_like(self._slot_N).index_copy_(
            0, carried, torch.arange(len(carried), device=carried.device)
        )
        self._state_rows = len(carried)
