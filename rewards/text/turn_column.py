"""The reward of a column that says what each turn earned: recorded conversations, or a `rollout_func` that plays them itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TurnColumn:
    """The sum of what a column says each turn earned; by turn for strategies that read it. Abstains where it says nothing.

    A cell is a list with a number for each turn (None: 0), or {turn: number}, numbered from 0.

    Args:
        column: of the data set, or a key of what `rollout_func` returns, beside `env_mask`.
    """

    knows_turns = True  # the column is there

    def __init__(self, column: str = "turn_rewards"):
        self.column, self.__name__ = column, column

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> list[float | None]:
        """One sum per completion.

        Raises:
            ValueError: there is no such column.
        """
        return [
            None if said is None else sum(said.values()) for said in self.turn_rewards(prompts, completions, **columns)
        ]

    def turn_rewards(self, prompts: Sequence, completions: Sequence, **columns: Any) -> list[dict[int, float] | None]:
        """{turn: number} of each completion."""
        if self.column not in columns:
            raise ValueError(
                f"No column {self.column!r} says what turns earned; there are {sorted(columns)}. Let `rollout_func` return one."
            )
        return [_by_turn(cell, self.column) for cell in columns[self.column]]


def _by_turn(cell: Any, column: str) -> dict[int, float] | None:
    if cell is None:
        return None
    if isinstance(cell, Mapping):
        pairs = {int(turn): value for turn, value in cell.items()}  # JSON writes numbers of keys as text
    elif hasattr(cell, "__iter__") and not isinstance(cell, (str, bytes)):
        pairs = dict(enumerate(cell))
    else:
        raise ValueError(f"Column {column!r}: give a list of numbers or {{turn: number}}, got {cell!r:.80}.")
    return {turn: 0.0 if value is None else float(value) for turn, value in pairs.items()}


turn_column = TurnColumn()
