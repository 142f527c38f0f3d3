"""Several small decoders side by side, each with its own weights, random numbers and learning rate.

The same network, sampling and Adam as benchmarks/doors/spans_decoder.py, for S policies in one batch of matrix products: on one
core several times faster than one after the other. Shapes: S policies, B completions, T tokens, W width, V letters.
"""

from __future__ import annotations

import torch
from spans_decoder import ROWS, Decoder, K, V
from torch import Tensor
from torch.nn import functional

NORM = 1.0  # of the gradient of each policy, at most
BETAS, EPS = (0.9, 0.99), 1e-8


class Policies:
    """S decoders, initialised as `spans_decoder.run` does it for each of `seeds`, with the learning rates `rates`."""

    def __init__(self, seeds: list[int], rates: list[float]):
        self.draws, self.keys, models = [], [], []
        for seed in seeds:
            torch.manual_seed(seed)
            self.draws.append(torch.Generator().manual_seed(seed))
            models.append(Decoder())
            self.keys.append(torch.randint(V, (K,), generator=self.draws[-1]))
        self.key_ST, self.heads, self.depth = torch.stack(self.keys), models[0].heads, len(models[0].layers)
        self.rates_S, self.step_count = torch.tensor(rates), 0
        named = [dict(model.named_parameters()) for model in models]
        self.weights = {name: torch.stack([each[name].detach() for each in named]) for name in named[0]}
        self.moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in self.weights.items()}

    def keep(self, kept_S: list[int]) -> None:
        """Drops all policies but these."""
        self.draws = [self.draws[s] for s in kept_S]
        self.key_ST, self.rates_S = self.key_ST[kept_S], self.rates_S[kept_S]
        self.weights = {name: w[kept_S] for name, w in self.weights.items()}
        self.moments = {name: (m[kept_S], v[kept_S]) for name, (m, v) in self.moments.items()}

    def forward(self, tokens_SBT: Tensor, caches: list[Tensor] | None = None, start: int = 0) -> tuple[Tensor, Tensor]:
        """Final states (S, B, T, W) and logits (S, B, T, V); with `caches` the tokens stand from place `start` on."""
        policies, rows, width = tokens_SBT.shape
        places = self.weights["places.weight"][:, None, start : start + width]
        x = self.weights["letters.weight"][torch.arange(policies)[:, None, None], tokens_SBT] + places
        for number in range(self.depth):
            name = f"layers.{number}."
            q, k, v = (
                self._linear(name + "1", self._norm(name + "0", x))
                .view(policies * rows, width, 3, self.heads, -1)
                .permute(2, 0, 3, 1, 4)
            )
            if caches is not None:
                caches[number][:, :, :, start : start + width] = torch.stack([k, v])
                k, v = caches[number][:, :, :, : start + width]
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + self._linear(name + "2", mixed.transpose(1, 2).reshape(x.shape))
            x = x + self._linear(name + "5", functional.gelu(self._linear(name + "4", self._norm(name + "3", x))))
        states = self._norm("norm", x)
        return states, torch.einsum("sbtw,svw->sbtv", states, self.weights["head.weight"])

    @torch.no_grad()
    def sample(self) -> Tensor:
        """(S, B, K) letters."""
        policies, width = len(self.draws), self.weights["norm.weight"].shape[1]
        caches = [torch.empty(2, policies * ROWS, self.heads, K, width // self.heads) for _ in range(self.depth)]
        token_SB1, letters = torch.full((policies, ROWS, 1), V), []
        for place in range(K):
            chances_SBV = self.forward(token_SB1, caches, place)[1][:, :, 0].softmax(-1)
            drawn = [
                torch.multinomial(chances_BV, 1, generator=draws)
                for chances_BV, draws in zip(chances_SBV, self.draws, strict=True)
            ]
            token_SB1 = torch.stack(drawn)
            letters.append(token_SB1)
        return torch.cat(letters, 2)

    def require_grad(self) -> None:
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Clips each policy's gradient to norm NORM, then one step of Adam."""
        grads = {name: weight.grad for name, weight in self.weights.items()}
        norms_S = sum(grad.flatten(1).square().sum(1) for grad in grads.values()).sqrt()
        scale_S = (NORM / (norms_S + 1e-6)).clamp(max=1.0)
        self.step_count += 1
        first, second = (1 - beta**self.step_count for beta in BETAS)
        for name, weight in self.weights.items():
            grad = grads[name] * _per_policy(scale_S, weight)
            mean, square = self.moments[name]
            mean.lerp_(grad, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
            weight.sub_(_per_policy(self.rates_S / first, weight) * mean / ((square / second).sqrt() + EPS))
            weight.requires_grad_(False)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        gain, bias = (self.weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return functional.layer_norm(x, x.shape[-1:]) * gain + bias

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2)).unflatten(1, x.shape[1:3])


def _per_policy(values_S: Tensor, like: Tensor) -> Tensor:
    return values_S.view(-1, *[1] * (like.dim() - 1))
