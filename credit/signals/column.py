"""A column of the data set as a signal."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from credit.signals.contract import Rows, Signal, named_columns, signal


class Column:
    """`difficulty` of the data set becomes `difficulty_B`; NaN where a row has none.

    Args:
        column: its name; a number or true/false in each row.
    """

    def __init__(self, column: str):
        self.column = column
        self.provides: dict[str, Signal] = {
            f"{column}_B": signal(f"{column}_B", "both", f"column {column!r} of the data set")
        }

    def check_columns(self, there: Collection[str]) -> None:
        """Raises ValueError: there is no such column."""
        if self.column not in there:
            raise ValueError(f"the data set has no column {self.column!r}; there is {named_columns(there)}.")

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        self.check_columns(rows.columns)
        values = [math.nan if value is None else float(value) for value in rows.columns[self.column]]
        return {f"{self.column}_B": torch.tensor(values, dtype=rows.rewards_B.dtype)}
