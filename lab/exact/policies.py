"""Policies over the tree of a world: a table, and a one-layer transformer. Pure functions of one flat parameter vector.

Shapes: N texts (of all prompts), T tokens, S states (prefixes at which the policy acts), A actions, D parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lab.exact.tree import Tree


class TreePolicy(Protocol):
    """`initial` (D,) float64 and `logits(theta) -> (N, T, A)`, -inf for actions that are not open; where the policy
    does not act, the values are arbitrary."""

    initial: Tensor

    def logits(self, theta: Tensor) -> Tensor: ...


@dataclass
class Tabular:
    """One free softmax for every prompt and prefix. D = S * A.

    Args:
        tree: the texts of the world.
        seed: the initial logits are the world's noise scale times a standard normal, plus the world's tilt.
    """

    tree: Tree
    seed: int = 0

    def __post_init__(self):
        generator = torch.Generator().manual_seed(self.seed)
        shape = self.tree.tilt_SA.shape
        noise_SA = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.initial = (self.tree.world.noise * noise_SA + self.tree.tilt_SA).flatten()

    def logits(self, theta: Tensor) -> Tensor:
        return self.tree.only_allowed(theta.view(self.tree.tilt_SA.shape)[self.tree.state_NT.clamp(min=0)])


@dataclass
class Transformer:
    """One causal self-attention layer and an MLP; the prompt is the first token, positions are learned.

    All prefixes and prompts share the parameters, as in a language model. Every parameter starts as a scaled normal.
    """

    tree: Tree
    seed: int = 0
    width: int = 8
    scale: float = 0.8

    def __post_init__(self):
        tokens = len(self.tree.world.vocabulary) + len(self.tree.world.prompts)
        actions, w = len(self.tree.world.actions), self.width
        self._shapes = {
            "embed": (tokens, w),
            "position": (self.tree.world.max_length, w),
            "query": (w, w),
            "key": (w, w),
            "value": (w, w),
            "up": (w, 2 * w),
            "down": (2 * w, w),
            "head": (w, actions),
        }
        generator = torch.Generator().manual_seed(self.seed)
        pieces = []
        for name, shape in self._shapes.items():
            std = self.scale * (1.0 if name in ("embed", "position") else 1 / math.sqrt(shape[0]))
            pieces.append(std * torch.randn(shape, generator=generator, dtype=torch.float64).flatten())
        self.initial = torch.cat(pieces)
        first_N1 = self.tree.prompt_N[:, None] + len(self.tree.world.vocabulary)
        # Position t sees the prompt and tokens 0..t-1.
        self._inputs_NT = torch.cat([first_N1, self.tree.token_ids_NT[:, :-1]], dim=1)

    def logits(self, theta: Tensor) -> Tensor:
        return self.tree.only_allowed(self.forward(theta, self._inputs_NT))

    def forward(self, theta: Tensor, inputs_NT: Tensor) -> Tensor:
        """(N, T, A) logits for input ids (prompt first)."""
        parts, start = {}, 0
        for name, shape in self._shapes.items():
            size = math.prod(shape)
            parts[name] = theta[start : start + size].view(shape)
            start += size
        length = inputs_NT.shape[1]
        x = parts["embed"][inputs_NT] + parts["position"][:length]
        scores = (x @ parts["query"]) @ (x @ parts["key"]).transpose(-1, -2) / math.sqrt(self.width)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        x = x + scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ (x @ parts["value"])
        x = x + torch.tanh(x @ parts["up"]) @ parts["down"]
        return x @ parts["head"]


POLICIES = {"tabular": Tabular, "transformer": Transformer}
