"""A generation batch while some of its groups are exchanged: lists with an entry for each row, and no tensors yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Where TRL's `_generate` has them in all supported versions; the rest of its answer is told by its form.
COMPLETION_IDS, _TOOL_MASK, COMPLETIONS = 1, 2, 3
_ANSWER, _EXTRA, LOGGED = "answer", "extra", "logged"  # kinds of columns


@dataclass
class Draw:
    """One call of TRL's `_generate`, for rows of this rank, and its rewards.

    answer: as TRL returned it.
    rewards_BK: of the rows of all ranks.
    logged: what reward functions logged for each row (`log_extra`), by column.
    """

    answer: tuple
    rewards_BK: Tensor
    logged: Mapping[str, list]

    def columns(self) -> dict[tuple[str, Any], list]:
        """Everything that has an entry for each row, by kind and name."""
        rows = len(self.answer[COMPLETION_IDS])
        parts = {(_ANSWER, place): part for place, part in enumerate(self.answer)}
        parts |= {(_EXTRA, name): part for name, part in extra_of(self.answer).items()}
        parts |= {(LOGGED, name): part for name, part in self.logged.items()}
        return {name: list(part) for name, part in parts.items() if isinstance(part, list) and len(part) == rows}


class Filling:
    """A generation batch while its groups are exchanged. `rows` and `prompts` are TRL's own lists, of this rank's rows.

    Attributes:
        keys: the prompt of each group of all ranks, as a string.
        rewards_BK: of all ranks.
        columns: as of `Draw`, of this rank's rows.
        flat: numbers of the groups that still have no spread.
        tried: prompts that were sampled for so far.
        sampled: completions so far, on all ranks.
    """

    def __init__(self, draw: Draw, rows: list, prompts: list, keys: list[str], flat: list[int], rank: int):
        self.rows, self.prompts, self.keys, self.flat = rows, prompts, keys, flat
        self.rewards_BK, self.columns = draw.rewards_BK.clone(), draw.columns()
        self.tried, self.sampled = set(keys), len(draw.rewards_BK)
        self._first = rank * len(rows)

    @property
    def kept(self) -> set[str]:
        """Prompts of the groups that stay."""
        return {key for group, key in enumerate(self.keys) if group not in self.flat}

    def take(self, place: int, rows: Sequence[dict], columns: Sequence[Mapping], rewards_GK: Tensor, key: str) -> None:
        """Puts a group where group number `place` was. rows, columns: one for each of its rows, whichever rank has sampled them."""
        start, size = place * len(rows), len(rows)
        self.rewards_BK[start : start + size] = rewards_GK
        self.keys[place] = key
        for offset in range(size):
            at = start + offset - self._first
            if not 0 <= at < len(self.rows):
                continue
            self.rows[at], self.prompts[at] = rows[offset], rows[offset]["prompt"]
            for name in {*self.columns, *columns[offset]}:
                self.columns.setdefault(name, [None] * len(self.rows))[at] = columns[offset].get(name)

    def answer(self, as_it_was: tuple, written: Tensor) -> tuple:
        """What TRL is given in the place of its first draw. written: tokens of all rows of all ranks, which some versions return."""
        extra = {name: part for (kind, name), part in self.columns.items() if kind == _EXTRA}
        made = []
        for place, part in enumerate(as_it_was):
            if (column := self.columns.get((_ANSWER, place))) is not None:
                part = column if any(entry is not None for entry in column) else None
            elif isinstance(part, dict):
                part = {**part, **extra}
            elif torch.is_tensor(part):
                part = written.to(part)
            made.append(part)
        return tuple(made)


@dataclass(frozen=True)
class Settled:
    """What TRL asks rewards for after a refill: its own list of prompts, and rewards of all ranks that are known."""

    prompts: list
    rewards_BK: Tensor

    def of(self, rows: Sequence[Mapping], prompts: list) -> Tensor:
        """`rewards_BK`, for the lists that were written into and no others."""
        same = prompts is self.prompts and [row["prompt"] for row in rows] == prompts
        assert same, "this TRL scores other lists than it sampled for"
        return self.rewards_BK


def shareable(count: int, size: int, ranks: int) -> int:
    """The smallest number of groups of `size` rows, `count` at least, whose rows the ranks can share evenly."""
    step = ranks // math.gcd(ranks, size)
    return -(-count // step) * step


def extra_of(answer: tuple) -> dict[str, Any]:
    """What a `rollout_func` returned beside tokens; TRL makes columns of it."""
    return next((part for part in answer if isinstance(part, dict)), {})


def of_kind(columns: Mapping[tuple[str, Any], list], kind: str) -> dict[Any, list]:
    return {name: part for (of, name), part in columns.items() if of == kind}


def row_by_row(columns: Mapping[Any, list], rows: int) -> list[dict]:
    return [{name: part[row] for name, part in columns.items()} for row in range(rows)]


def written_of(columns: Mapping[tuple[str, Any], list]) -> list[int]:
    """Tokens of each row that the policy wrote, tool text left out."""
    masks = columns.get((_ANSWER, _TOOL_MASK))
    return [sum(mask) for mask in masks] if masks else [len(ids) for ids in columns[_ANSWER, COMPLETION_IDS]]
