"""What a prompt is worth by completions that were drawn and rewarded before training."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from credit.signals.contract import Rows, Signal, named_columns, signal


class OfflineValue:
    """`offline_value_B`: V(x) = temperature log mean_i exp(r_i / temperature) over the rewards of earlier completions of the prompt, or
    the value itself where one number stands for them. Source: arXiv 2505.20686, equation 4.

    Args:
        column: of the data set; a list of rewards, or one number, in each row. With `file`: the column whose text the file lists;
            "prompt" for the prompt itself, of a conversation the content of its last message.
        file: JSON, {text: list of rewards, or one number}.
        temperature: above 0; 0: the mean. The larger the nearer to the mean; the smaller the nearer to the best.

    Raises:
        ValueError: `temperature` is negative; (when called) a row has no value.
    """

    def __init__(self, column: str = "offline_rewards", file: str | None = None, temperature: float = 0.5):
        if not 0.0 <= temperature < math.inf:
            raise ValueError(f"temperature={temperature} of offline values must be 0 (the mean) or a number above.")
        self.column, self.file, self.temperature = column, file, temperature
        meaning = "value of the prompt by completions from before training (column offline_rewards, or a file)"
        self.provides: dict[str, Signal] = {"offline_value_B": signal("offline_value_B", "both", meaning)}

    def check_columns(self, there: Collection[str]) -> None:
        """Raises ValueError: there is no such column."""
        if self.column not in there and not (self.file is not None and self.column == "prompt"):
            raise ValueError(
                f"offline values: the data set has no column {self.column!r}; there is {named_columns(there)}. Give each row the rewards "
                "of a few completions drawn before training there, or name another column or a file (docs/credit/signals.md)."
            )

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        values = [self._value(found, row) for row, found in enumerate(self._found(rows))]
        device = rows.rewards_B.device
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which Apple's devices do not have
        return {"offline_value_B": torch.tensor(values, dtype=dtype, device=device)}

    def _found(self, rows: Rows) -> list[Any]:
        if self.file is None:
            return self._column(rows)
        names = [_text(prompt) for prompt in rows.prompts] if self.column == "prompt" else self._column(rows)
        if missing := next((name for name in names if str(name) not in self._table), None):
            raise ValueError(f"{self.file} has no value for {str(missing)[:80]!r}; it lists {len(self._table)} texts.")
        return [self._table[str(name)] for name in names]

    def _column(self, rows: Rows) -> list[Any]:
        self.check_columns(rows.columns)
        return list(rows.columns[self.column])

    @cached_property
    def _table(self) -> dict[str, Any]:
        table = json.loads(Path(str(self.file)).read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError(f"{self.file} holds a {type(table).__name__}; it must be an object, text -> rewards.")
        return table

    def _value(self, found: Any, row: int) -> float:
        try:
            rewards = [float(one) for one in (found if isinstance(found, (list, tuple)) else [found])]
        except (TypeError, ValueError):
            rewards = []
        if not rewards or not all(map(math.isfinite, rewards)):
            raise ValueError(f"offline values: row {row} has {found!r}, not a list of rewards or a number.")
        if not self.temperature:
            return math.fsum(rewards) / len(rewards)
        best = max(rewards)
        mean = math.fsum(math.exp((one - best) / self.temperature) for one in rewards) / len(rewards)
        return best + self.temperature * math.log(mean)


offline_values = OfflineValue()


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content"))
