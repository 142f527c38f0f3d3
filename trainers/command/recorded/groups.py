"""Recorded completions in groups of one prompt, and the groups in generation batches, as TRL would have sampled them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from configs.compose import ConfigError
from tasks.base import Row
from trainers.command.recorded.of_task import key_of
from trainers.command.recorded.said import Said


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What an audit takes in the place of sampling.

    Args:
        source: the file, as it was named.
        rows, said: of each completion that has a place, group after group, batch after batch; every row has every column.
        generations: completions of a group; batch: of a generation batch.
        total: completions of the file; prompts: different ones among them.
        alone: completions that fill no group of their prompt; surplus: those whose groups fill no batch.
        notes: what is to be said of the file, a line each.
    """

    source: str
    rows: list[Row]
    said: list[Said]
    generations: int
    batch: int
    total: int
    prompts: int
    alone: int
    surplus: int
    notes: tuple[str, ...] = ()

    @property
    def batches(self) -> int:
        return len(self.rows) // self.batch

    def first(self, batches: int) -> Recorded:
        """With so many batches at most."""
        kept = min(batches, self.batches) * self.batch
        surplus = self.surplus + len(self.rows) - kept
        return replace(self, rows=self.rows[:kept], said=self.said[:kept], surplus=surplus)

    def in_words(self) -> list[str]:
        """What is taken, and what is left over and why."""
        left = [
            f"{self.alone} are too few of their prompt for a group of {self.generations}" if self.alone else "",
            f"{self.surplus} are in none of the batches of {self.batch}" if self.surplus else "",
        ]
        return [
            f"recorded {len(self.rows)} of {self.total} completions, of {self.prompts} prompts, from {self.source}"
            + "".join(f"; {one}" for one in left if one),
            *self.notes,
        ]


def recorded_in_groups(
    source: str,
    rows: Sequence[Row],
    said: Sequence[Said],
    generations: int,
    batch: int,
    shuffled_by: int | None,
    apart: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Recorded:
    """Rows of one prompt form groups in the order of the file, wherever they stand in it, and a group stands where its first row does.

    Args:
        rows, said: of each completion of the file.
        generations: completions of a group; batch: of a generation batch.
        shuffled_by: seed of the order of the groups; None: that of the file.
        apart: columns by which equal prompts are told apart, such as the answer.

    Raises:
        ConfigError: no group is full.
    """
    keys = [_key(row, apart) for row in rows]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    groups = [own[at : at + generations] for own in places.values() for at in range(0, len(own), generations)]
    groups = sorted((group for group in groups if len(group) == generations), key=lambda group: group[0])
    if not groups:
        _refuse_sizes(source, [len(own) for own in places.values()], generations)
    if shuffled_by is not None:
        random.Random(shuffled_by).shuffle(groups)
    whole = len(groups) // (batch // generations) * (batch // generations)
    order = [place for group in groups[:whole] for place in group]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Recorded(
        source=source,
        rows=[{name: rows[place].get(name) for name in names} for place in order],
        said=[said[place] for place in order],
        generations=generations,
        batch=batch,
        total=len(rows),
        prompts=len(places),
        alone=len(rows) - len(groups) * generations,
        surplus=(len(groups) - whole) * generations,
        notes=tuple(notes),
    )


def _key(row: Row, apart: Sequence[str]) -> str:
    return json.dumps([key_of(row["prompt"]), [row.get(name) for name in apart]], sort_keys=True, default=repr)


def _refuse_sizes(source: str, sizes: Sequence[int], generations: int) -> Any:
    most = max(sizes)
    if most < 2:
        raise ConfigError(
            f"completions={source}: one completion for each of {len(sizes)} prompts. Credit compares completions of one prompt: write "
            f"{generations} for each, or at least 2 (trainer.num_generations=2)."
        )
    common = Counter(size for size in sizes if size > 1).most_common(1)[0][0]
    raise ConfigError(
        f"completions={source}: no prompt has {generations} completions; most have {common}, at most {most}. Set "
        f"trainer.num_generations={common}, and trainer.per_device_train_batch_size to a multiple of it."
    )
