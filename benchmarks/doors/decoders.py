"""Many small decoders side by side, each with weights of its own: ten seeds of a toy run for the price of three.

Shapes: S decoders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoders(nn.Module):
    """S copies of the architecture of `spans_decoder.Decoder` as one batched model; W width."""

    def __init__(self, policies: list):
        super().__init__()
        self.heads, self.depth, self.longest = (
            policies[0].heads,
            len(policies[0].layers),
            len(policies[0].places.weight),
        )
        named = [dict(policy.named_parameters()) for policy in policies]
        for name in named[0]:
            stacked = torch.stack([parameters[name].detach() for parameters in named])
            self.register_parameter(name.replace(".", "_"), nn.Parameter(stacked))

    def forward(self, tokens_SBT: Tensor, past: list[Tensor] | None = None, start: int = 0) -> Tensor:
        """(S, B, T, V) logits. With `past` (see `empty_past`), tokens continue at place `start`, one at a time."""
        count, rows, width = tokens_SBT.shape
        seed_S1 = torch.arange(count)[:, None]
        x = self.letters_weight[seed_S1, tokens_SBT.reshape(count, -1)].view(count, rows, width, -1)
        x = (x + self.places_weight[:, None, start : start + width]).view(count, rows * width, -1)
        for layer in range(self.depth):
            qkv = self._linear(f"layers_{layer}_1", self._norm(f"layers_{layer}_0", x))
            q, k, v = qkv.view(count * rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if past is not None:
                past[layer][:, :, :, start : start + 1] = torch.stack([k, v])
                k, v = past[layer][:, :, :, : start + 1].unbind()
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + self._linear(f"layers_{layer}_2", mixed.transpose(1, 2).reshape(count, rows * width, -1))
            inner = nn.functional.gelu(self._linear(f"layers_{layer}_4", self._norm(f"layers_{layer}_3", x)))
            x = x + self._linear(f"layers_{layer}_5", inner)
        return (self._norm("norm", x) @ self.head_weight.mT).view(count, rows, width, -1)

    def empty_past(self, rows: int) -> list[Tensor]:
        """Room for keys and values, one buffer per layer."""
        count, width = self.norm_weight.shape
        return [torch.empty(2, count * rows, self.heads, self.longest, width // self.heads) for _ in range(self.depth)]

    @torch.no_grad()
    def sample(self, uniforms_SBT: Tensor, first: int) -> Tensor:
        """(S, B, T) letters after the token `first`, each the inverse of the distribution function at its number."""
        count, rows, length = uniforms_SBT.shape
        past, letters_SBT = self.empty_past(rows), torch.full((count, rows, 1), first)
        for t in range(length):
            below_SBV = self(letters_SBT[:, :, -1:], past, t)[:, :, 0].softmax(-1).cumsum(-1)[..., :-1]
            drawn_SB1 = (uniforms_SBT[:, :, t : t + 1] > below_SBV).sum(-1, keepdim=True)
            letters_SBT = torch.cat([letters_SBT, drawn_SB1], 2)
        return letters_SBT[:, :, 1:]

    def clip(self, longest: float) -> None:
        """Scales the gradient of each decoder by itself to a norm of at most `longest`."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm_S = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        for gradient in gradients:
            gradient.mul_((longest / norm_S).clamp(max=1.0).view(-1, *[1] * (gradient.dim() - 1)))

    def keep(self, rows: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Only these decoders go on."""
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data[rows].clone(), None
            for name, value in optimiser.state[parameter].items():
                if name != "step":
                    optimiser.state[parameter][name] = value[rows].clone()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(getattr(self, f"{name}_bias")[:, None], x, getattr(self, f"{name}_weight").mT)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return nn.functional.layer_norm(x, x.shape[-1:]) * scale[:, None] + shift[:, None]
