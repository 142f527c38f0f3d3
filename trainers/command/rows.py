"""A task's rows as the data set TRL wants, without what Arrow would make of them.

Arrow gives a column one type: objects would get the keys of all rows with None in them, whole numbers become broken
ones, and mixed cells are an error. Here the table holds places only, and a row is looked up when it is asked for.
"""

from __future__ import annotations

import copy
import uuid
from typing import Any

from datasets import Dataset

from tasks.base import Row


def as_dataset(rows: list[Row]) -> Dataset:
    """A data set whose rows are these: every cell with its own type and keys, a copy each time, so that nothing a
    reward does to it is there the next time. Every row has every column (None where it had none)."""
    lookup = _Lookup()
    # The column is called prompt, so that `remove_unused_columns` finds one it knows.
    dataset = Dataset.from_dict({"prompt": range(len(rows))})
    dataset.set_transform(lookup)
    # Only now: `datasets` hashes what it is given, row by row.
    lookup.rows, lookup.names = rows, list(dict.fromkeys(name for row in rows for name in row))
    return dataset


def as_table(rows: list[Row]) -> Dataset:
    """The same for `SFTTrainer`, which maps and stores its rows: whatever has other keys in other rows (messages, the
    arguments of tool calls) is held as JSON and keeps its own."""
    return Dataset.from_list(rows, on_mixed_types="use_json")


class _Lookup:
    def __init__(self):
        self.rows: list[Row] = []
        self.names: list[str] = []
        self.key = uuid.uuid4().hex  # tells the fingerprints of two data sets apart

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        places = batch["prompt"]
        return {name: [copy.deepcopy(self.rows[place].get(name)) for place in places] for name in self.names}
