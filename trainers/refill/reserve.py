"""Prompts that take the place of others: the rows of the training set once more, in an order of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch


class Reserve:
    """Numbers of rows, one after another: all of them in a shuffled order, then all in another one.

    The order is drawn from the seed by a generator of its own, so every rank draws the same, and nothing else in the run is
    drawn otherwise. A row that may not be taken now waits and comes first the next time.

    Args:
        key_of: number of a row -> its prompt as one comparable string.
        size: rows of the training set.
        seed: of the orders.
        shuffled: false: each pass goes through the rows as they stand.
    """

    def __init__(self, key_of: Callable[[int], str], size: int, seed: int, shuffled: bool = True):
        self._key_of, self._size, self._seed, self._shuffled = key_of, size, seed, shuffled
        self._passes, self._place, self._waiting = 0, 0, []
        self._order = self._order_of(0)

    def draw(self, count: int, barred: Sequence[set[str]]) -> list[int]:
        """`count` rows, each with another prompt as long as there is one.

        barred: sets of prompts, from the one that is best avoided whole to the one that is avoided longest. A prompt that is drawn
        joins all of them. Where a set leaves nothing to take, the next one counts; after the last, any row does.
        """
        barred = [*map(set, barred)] or [set()]
        drawn = []
        for _ in range(count):
            row = next((row for each in [*barred, set()] if (row := self._take(each)) is not None), None)
            assert row is not None, "the training set has no rows"
            drawn.append(row)
            for each in barred:
                each.add(self._key_of(row))
        return drawn

    def _take(self, barred: set[str]) -> int | None:
        for at, row in enumerate(self._waiting):
            if self._key_of(row) not in barred:
                return self._waiting.pop(at)
        while self._place < self._size or len(self._waiting) < self._size:
            if self._place == self._size:
                self._passes, self._place = self._passes + 1, 0
                self._order = self._order_of(self._passes)
            row = self._order[self._place]
            self._place += 1
            if self._key_of(row) not in barred:
                return row
            if row not in self._waiting:
                self._waiting.append(row)
        return None

    def _order_of(self, passes: int) -> Sequence[int]:
        if not self._shuffled:
            return range(self._size)
        # torch's generator reads 32 bits of a seed, and the run's own may be any number.
        mixed = hashlib.sha256(f"reserve {self._seed} {passes}".encode()).digest()[:4]
        generator = torch.Generator().manual_seed(int.from_bytes(mixed, "big"))
        return torch.randperm(self._size, generator=generator).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self._passes, "place": self._place, "waiting": list(self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._passes, self._place, self._waiting = state["passes"], state["place"], list(state["waiting"])
        self._order = self._order_of(self._passes)
