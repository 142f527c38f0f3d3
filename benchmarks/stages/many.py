"""S small decoders as one batched model, each with weights of its own, on any device.

Shapes: S models, B texts, T tokens, W width, V vocabulary. Pre-norm, absolute positions learned, no dropout. Models of one
seed start from the same weights, so that arms are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of one decoder; `longest` tokens are written or read after the first one, which is `start`."""

    vocabulary: int
    longest: int
    width: int
    depth: int
    heads: int

    @property
    def start(self) -> int:
        """The token that stands before every text; it is never written."""
        return self.vocabulary


class Many(nn.Module):
    """Decoders for `seeds`, one for each entry; equal seeds have equal initial weights."""

    def __init__(self, shape: Shape, seeds: Sequence[int], spread: float = 0.02):
        super().__init__()
        self.shape = shape
        wide, inner = shape.width, 4 * shape.width
        sizes = {
            "letters": (shape.vocabulary + 1, wide),
            "places": (shape.longest, wide),
            "head": (wide, shape.vocabulary),
        }
        for layer in range(shape.depth):
            sizes |= {f"qkv{layer}": (wide, 3 * wide), f"out{layer}": (wide, wide)}
            sizes |= {f"up{layer}": (wide, inner), f"down{layer}": (inner, wide)}
        generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        for name, size in sizes.items():
            made = {seed: spread * torch.randn(size, generator=generators[seed]) for seed in generators}
            setattr(self, name, nn.Parameter(torch.stack([made[seed] for seed in seeds])))
            if name not in ("letters", "places", "head"):
                setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(len(seeds), 1, size[1])))
        for name in [f"norm{place}" for place in range(2 * shape.depth + 1)]:
            setattr(self, name, nn.Parameter(torch.ones(len(seeds), 1, wide)))
            setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(len(seeds), 1, wide)))

    def forward(self, tokens_SBT: Tensor, past: list[Tensor] | None = None, first: int = 0) -> Tensor:
        """(S, B, T, V) logits of the token after each. With `past` (see `room`) one token at place `first`."""
        count, rows, width = tokens_SBT.shape
        model_S1 = torch.arange(count, device=tokens_SBT.device)[:, None]
        x = self.letters[model_S1, tokens_SBT.reshape(count, -1)].view(count, rows, width, -1)
        x = (x + self.places[:, None, first : first + width]).view(count, rows * width, -1)
        for layer in range(self.shape.depth):
            qkv = self._linear(f"qkv{layer}", self._norm(2 * layer, x))
            q, k, v = qkv.view(count * rows, width, 3, self.shape.heads, -1).permute(2, 0, 3, 1, 4)
            if past is not None:
                past[layer][:, :, :, first : first + 1] = torch.stack([k, v])
                k, v = past[layer][:, :, :, : first + 1].unbind()
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + self._linear(f"out{layer}", mixed.transpose(1, 2).reshape(count, rows * width, -1))
            inner = nn.functional.gelu(self._linear(f"up{layer}", self._norm(2 * layer + 1, x)))
            x = x + self._linear(f"down{layer}", inner)
        return (self._norm(2 * self.shape.depth, x) @ self.head).view(count, rows, width, -1)

    def room(self, rows: int) -> list[Tensor]:
        """For keys and values, one buffer a layer."""
        count, size = len(self.head), self.shape.width // self.shape.heads
        shape = (2, count * rows, self.shape.heads, self.shape.longest, size)
        return [torch.empty(shape, device=self.head.device) for _ in range(self.shape.depth)]

    @torch.no_grad()
    def write(self, uniforms_SBT: Tensor, end: int) -> Tensor:
        """(S, B, T) texts at temperature 1: inverse distribution functions at the given numbers; -1 after the end token."""
        count, rows, longest = uniforms_SBT.shape
        past = self.room(rows)
        token_SB1 = torch.full((count, rows, 1), self.shape.start, device=uniforms_SBT.device)
        over_SB1 = torch.zeros_like(token_SB1, dtype=torch.bool)
        written = []
        for t in range(longest):
            below_SBV = self(token_SB1, past, t)[:, :, 0].softmax(-1).cumsum(-1)[..., :-1]
            token_SB1 = (uniforms_SBT[:, :, t : t + 1] > below_SBV).sum(-1, keepdim=True)
            written.append(token_SB1.masked_fill(over_SB1, -1))
            over_SB1 = over_SB1 | (token_SB1 == end)
            if over_SB1.all():
                break
        return torch.cat(written, 2)

    def inputs(self, texts_SBT: Tensor) -> Tensor:
        """What is read to predict each token of `texts_SBT` (-1 behind a text): the start token, then all but the last."""
        start = torch.full_like(texts_SBT[..., :1], self.shape.start)
        return torch.cat([start, texts_SBT[..., :-1].clamp(min=0)], -1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(getattr(self, f"{name}_bias"), x, getattr(self, name))

    def _norm(self, place: int, x: Tensor) -> Tensor:
        scale, shift = getattr(self, f"norm{place}"), getattr(self, f"norm{place}_bias")
        return nn.functional.layer_norm(x, x.shape[-1:]) * scale + shift
