"""What members that remember prompts have in common: a value and how much stands behind it, for each prompt seen in training.

It is read before it learns: the baseline of a row knows nothing of the row's own reward, so the direction stays unbiased however
old or wrong the value is. Learning happens once for each generation batch, from the rows of all ranks, in Python's floats and
with exact sums, so that the state is the same to the bit on all ranks and in whatever order the rows come.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class PromptMemory:
    """Prompt key -> (value, count). `count`: how many completions stand behind the value, older ones fading."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float]] = {}

    def recall(self, prompt_B: Tensor, rewards_B: Tensor) -> tuple[Tensor, Tensor]:
        """(value_B, known_B) before this batch; the value of a prompt not known yet is 0."""
        found = [self._known.get(key) for key in prompt_B.tolist()]
        value_B = rewards_B.new_tensor([0.0 if one is None else one[0] for one in found])
        known_B = torch.tensor([one is not None for one in found], device=rewards_B.device, dtype=torch.bool)
        return value_B, known_B

    def seen(self, prompt_B: Tensor, rewards_B: Tensor) -> dict[int, tuple[float, int]]:
        """Key -> (mean, number) of the scorable rows of this batch; prompts without one are left out."""
        rewards: dict[int, list[float]] = {}
        for key, reward in zip(prompt_B.tolist(), rewards_B.tolist(), strict=True):
            if not math.isnan(reward):
                rewards.setdefault(key, []).append(reward)
        return {key: (math.fsum(each) / len(each), len(each)) for key, each in rewards.items()}

    def get(self, key: int) -> tuple[float, float] | None:
        return self._known.get(key)

    def put(self, key: int, value: float, count: float) -> None:
        self._known[key] = value, count

    def state_dict(self) -> dict[str, Any]:
        """Sorted by key, so that the order in which prompts were met does not matter."""
        keys = sorted(self._known)
        pairs = [self._known[key] for key in keys]
        return {
            "keys": torch.tensor(keys, dtype=torch.int64),
            "values": torch.tensor([value for value, _ in pairs], dtype=torch.float64),
            "counts": torch.tensor([count for _, count in pairs], dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        columns = (state[name].tolist() for name in ("keys", "values", "counts"))
        self._known = {key: (value, count) for key, value, count in zip(*columns, strict=True)}
