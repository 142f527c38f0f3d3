"""What the audit has measured, before any statistics: the seam between gradients (trainers/audit/) and estimates (lab/audit/).

Shapes: S strategies, B generation batches of one fixed policy (in this file; elsewhere rows).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Collected:
    """Inner products of the gradients g[s,b] of the trainer's loss, of each strategy on each generation batch, and facts beside them.

    A gradient is that of a whole generation batch, before any clipping of its norm and any optimiser. It points uphill: minus the
    gradient of the loss.

    Attributes:
        strategies: S names as they were typed, the reference and the pseudo-strategy for length with them.
        reference: the name of the one that is unbiased, `rloo`.
        length: the name of the pseudo-strategy whose reward is the length, so that its mean is the gradient of E[length]; or None.
        gram_SBSB: (S, B, S, B) float64, <g[s,b], g[s',b']>.
        completions: rows of one generation batch, over all ranks.
        generations: rows of one group.
        facts: one dict per batch: mean reward, mean length, share of flat groups, seconds.
        shares: {strategy: {"position" | "length" | "turn": [{"from": , "to": , "values": [one per batch]}], "reward": {name: [one per
            batch]}}}, the share of the update that comes from a slice of the tokens or of the reward; {} where not asked for.
        sketch: {"kind": "exact" | "count", "size": numbers kept of each gradient, "parameters": of the gradient itself}.
        about: command, model, task, reward, commit, versions, seconds by part, cost in training steps.
    """

    strategies: tuple[str, ...]
    reference: str
    length: str | None
    gram_SBSB: Tensor
    completions: int
    generations: int
    facts: list[dict[str, Any]] = field(default_factory=list)
    shares: dict[str, Any] = field(default_factory=dict)
    sketch: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def batches(self) -> int:
        return self.gram_SBSB.shape[1]

    def save(self, path: str | Path) -> None:
        """Plain values and tensors only, so that reading it runs no code."""
        torch.save(asdict(self), path)

    @classmethod
    def load(cls, path: str | Path) -> Collected:
        return cls(**torch.load(path, weights_only=True))
