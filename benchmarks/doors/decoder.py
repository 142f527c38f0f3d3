"""The policy of the doors benchmarks: a small decoder, and S of them side by side as one batched model.

DOORS letters of V, ROWS completions a step in groups of GROUP; a run has arrived when the mean reward of SMOOTH steps is TARGET.
Side by side, each with weights, random numbers and learning rate of its own, ten seeds cost what three cost one after the other.

Shapes: S decoders, B completions, T tokens, W width, V letters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

DOORS, V, ROWS, GROUP, TARGET, SMOOTH = 64, 4, 16, 8, 0.9, 10


class Decoder(nn.Module):
    """Pre-norm decoder over the letters, with learned absolute positions; token V is the prompt."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.letters, self.positions = nn.Embedding(V + 1, width), nn.Embedding(DOORS, width)
        norm, linear, inner = nn.LayerNorm, nn.Linear, 4 * width
        self.layers = nn.ModuleList(
            nn.ModuleList([norm(width), linear(width, 3 * width), linear(width, width)])
            .append(norm(width))
            .extend([linear(width, inner), linear(inner, width)])
            for _ in range(layers)
        )
        self.norm, self.head = norm(width), linear(width, V, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T, V) logits."""
        rows, width = tokens_BT.shape
        x = self.letters(tokens_BT) + self.positions.weight[:width]
        for norm1, qkv, out, norm2, up, down in self.layers:
            q, k, v = qkv(norm1(x)).view(rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + out(mixed.transpose(1, 2).reshape(rows, width, -1))
            x = x + down(nn.functional.gelu(up(norm2(x))))
        return self.head(self.norm(x))


class Decoders(nn.Module):
    """S copies of the architecture of `Decoder`, each with weights of its own."""

    def __init__(self, decoders: list[Decoder]):
        super().__init__()
        self.heads, self.depth = decoders[0].heads, len(decoders[0].layers)
        named = [dict(decoder.named_parameters()) for decoder in decoders]
        for name in named[0]:
            stacked = torch.stack([parameters[name].detach() for parameters in named])
            self.register_parameter(name.replace(".", "_"), nn.Parameter(stacked))

    def forward(self, tokens_SBT: Tensor, past: list[Tensor] | None = None, start: int = 0) -> tuple[Tensor, Tensor]:
        """Final states (S, B, T, W) and logits (S, B, T, V). With `past` (see `empty_past`), tokens continue at position `start`."""
        count, rows, width = tokens_SBT.shape
        x = self.letters_weight[torch.arange(count)[:, None, None], tokens_SBT]
        x = x + self.positions_weight[:, None, start : start + width]
        for layer in range(self.depth):
            qkv = self._linear(f"layers_{layer}_1", self._norm(f"layers_{layer}_0", x))
            q, k, v = qkv.view(count * rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if past is not None:
                past[layer][:, :, :, start : start + width] = torch.stack([k, v])
                k, v = past[layer][:, :, :, : start + width].unbind()
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + self._linear(f"layers_{layer}_2", mixed.transpose(1, 2).reshape(x.shape))
            inner = nn.functional.gelu(self._linear(f"layers_{layer}_4", self._norm(f"layers_{layer}_3", x)))
            x = x + self._linear(f"layers_{layer}_5", inner)
        states = self._norm("norm", x)
        return states, (states.flatten(1, 2) @ self.head_weight.mT).unflatten(1, (rows, width))

    def empty_past(self, rows: int) -> list[Tensor]:
        """Room for keys and values, one buffer per layer."""
        count, width = self.norm_weight.shape
        return [torch.empty(2, count * rows, self.heads, DOORS, width // self.heads) for _ in range(self.depth)]

    @torch.no_grad()
    def sample(self, draw: Callable[[int, Tensor], Tensor]) -> Tensor:
        """(S, B, T) letters after the prompt; `draw(t, probs_SBV)` chooses those at position t, (S, B, 1)."""
        past, letters = self.empty_past(ROWS), [torch.full((len(self.norm_weight), ROWS, 1), V)]
        for t in range(DOORS):
            letters.append(draw(t, self(letters[-1], past, t)[1][:, :, 0].softmax(-1)))
        return torch.cat(letters[1:], 2)

    def clip(self, longest: float) -> None:
        """Scales the gradient of each decoder by itself to a norm of at most `longest`."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm_S = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        for gradient in gradients:
            gradient.mul_(_of_each((longest / norm_S).clamp(max=1.0), gradient))

    def keep(self, kept_S: list[int], optimiser) -> None:
        """Only these decoders go on; `optimiser` is torch's, or an `AdamOfEach`. No graph of an earlier step may be alive."""
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data[kept_S].clone(), None
            for name, value in optimiser.state[parameter].items():
                if name != "step":
                    optimiser.state[parameter][name] = value[kept_S].clone()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.mT).unflatten(1, x.shape[1:3])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        gain, bias = (getattr(self, f"{name}_{part}")[:, None, None] for part in ("weight", "bias"))
        return nn.functional.layer_norm(x, x.shape[-1:]) * gain + bias


class AdamOfEach:
    """Adam with a learning rate for each decoder, each gradient clipped by itself to a norm of 1."""

    NORM, BETAS, EPS = 1.0, (0.9, 0.99), 1e-8

    def __init__(self, decoders: Decoders, rates: list[float]):
        self.parameters, self.steps = list(decoders.parameters()), 0
        self.state = {
            parameter: {
                "rate": torch.tensor(rates),
                "mean": torch.zeros_like(parameter),
                "square": torch.zeros_like(parameter),
            }
            for parameter in self.parameters
        }

    @torch.no_grad()
    def step(self) -> None:
        """Takes the gradients up and leaves none."""
        norm_S = sum(parameter.grad.flatten(1).square().sum(1) for parameter in self.parameters).sqrt()
        scale_S = (self.NORM / (norm_S + 1e-6)).clamp(max=1.0)
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in self.BETAS)
        for parameter in self.parameters:
            state, gradient = self.state[parameter], parameter.grad * _of_each(scale_S, parameter)
            state["mean"].lerp_(gradient, 1 - self.BETAS[0])
            state["square"].mul_(self.BETAS[1]).addcmul_(gradient, gradient, value=1 - self.BETAS[1])
            rate = _of_each(state["rate"] / first, parameter)
            parameter.sub_(rate * state["mean"] / ((state["square"] / second).sqrt() + self.EPS))
            parameter.grad = None


def start(seeds: list[int]) -> tuple[Decoders, list[torch.Generator], Tensor]:
    """Decoders of these seeds, their random numbers, and the key of each, (S, T): the letter that opens each door."""
    made = []
    for seed in seeds:
        torch.manual_seed(seed)
        made.append(Decoder())
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    return Decoders(made), draws, torch.stack([torch.randint(V, (DOORS,), generator=each) for each in draws])


def by_uniforms(uniforms_SBT: Tensor) -> Callable[[int, Tensor], Tensor]:
    """For `Decoders.sample`: the inverse of the distribution function at these numbers, all decoders in one operation."""
    return lambda t, probs_SBV: (uniforms_SBT[:, :, t : t + 1] > probs_SBV.cumsum(-1)[..., :-1]).sum(-1, keepdim=True)


def by_generators(draws: list[torch.Generator]) -> Callable[[int, Tensor], Tensor]:
    """For `Decoders.sample`: torch's multinomial, decoder by decoder."""

    def draw(t: int, probs_SBV: Tensor) -> Tensor:
        pairs = zip(probs_SBV, draws, strict=True)
        return torch.stack([torch.multinomial(probs_BV, 1, generator=generator) for probs_BV, generator in pairs])

    return draw


def _of_each(values_S: Tensor, like: Tensor) -> Tensor:
    return values_S.view(-1, *[1] * (like.dim() - 1))
