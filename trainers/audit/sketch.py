"""Gradients made small enough to keep: all numbers of them, or a count sketch whose inner products are those of the gradients.

A count sketch adds each number, with a random sign, to one of K places. It is linear, so sums of gradients are sums of sketches;
<sketch x, sketch y> has the mean <x, y> over the random choices and a variance of at most (|x|^2 |y|^2 + <x, y>^2) / K, since any
two numbers share a place with probability 1/K at most (Charikar, Chen and Farach-Colton 2002; Weinberger et al. 2009,
arXiv:0902.2206). Here the places of K neighbours are shifted together, which keeps that probability and needs no table of places.

Shapes: K numbers kept, D numbers of the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

_PRIME = 1_000_003


class Sketch(ABC):
    """Args: `shapes`: of the tensors that make up a gradient, in order.

    Attributes:
        kind: "exact" or "count".
        size: K, numbers kept.
        parameters: D, numbers of the gradient.
    """

    kind: str
    size: int

    def __init__(self, shapes: Sequence[torch.Size]):
        self.shapes = list(shapes)
        self.parameters = sum(shape.numel() for shape in self.shapes)

    @abstractmethod
    def of(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """(K,) float64 of one gradient, a tensor for each of `shapes`; None stands for zeros."""

    @abstractmethod
    def back(self, sketch_K: Tensor) -> list[Tensor]:
        """The transposed map: tensors u of `shapes` with <u, x> = <sketch_K, of(x)> for every x. float32."""


class ExactSketch(Sketch):
    """All numbers, one tensor after the other."""

    kind = "exact"

    def __init__(self, shapes: Sequence[torch.Size]):
        super().__init__(shapes)
        self.size = self.parameters

    def of(self, gradients: Sequence[Tensor | None]) -> Tensor:
        device = next(gradient.device for gradient in gradients if gradient is not None)
        flat_D = torch.zeros(self.size, dtype=torch.float64, device=device)
        start = 0
        for shape, gradient in zip(self.shapes, gradients, strict=True):
            if gradient is not None:
                flat_D[start : start + shape.numel()] = gradient.flatten()
            start += shape.numel()
        return flat_D

    def back(self, sketch_K: Tensor) -> list[Tensor]:
        parts = sketch_K.float().split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class CountSketch(Sketch):
    """Args: `size`: K; `seed`: of signs and shifts, the same on all ranks and on every device; `device`: of the signs, one byte each."""

    kind = "count"

    def __init__(self, shapes: Sequence[torch.Size], size: int, seed: int = 0, device: torch.device | str = "cpu"):
        super().__init__(shapes)
        self.size = size
        self._signs, self._shifts = [], []
        for number, shape in enumerate(self.shapes):
            generator = torch.Generator().manual_seed(seed * _PRIME + number)
            count = shape.numel()
            signs = torch.randint(0, 2, (count,), generator=generator, dtype=torch.int8) * 2 - 1
            self._signs.append(signs.to(device))
            self._shifts.append(torch.randint(size, (-(-count // size),), generator=generator).tolist())

    def of(self, gradients: Sequence[Tensor | None]) -> Tensor:
        device = next(gradient.device for gradient in gradients if gradient is not None)
        sketch_K = torch.zeros(self.size, dtype=torch.float64, device=device)
        for gradient, signs, shifts in zip(gradients, self._signs, self._shifts, strict=True):
            if gradient is None:
                continue
            signed = gradient.flatten() * signs
            for shift, piece in zip(shifts, signed.split(self.size), strict=True):
                before = min(len(piece), self.size - shift)
                sketch_K[shift : shift + before] += piece[:before]
                sketch_K[: len(piece) - before] += piece[before:]
        return sketch_K

    def back(self, sketch_K: Tensor) -> list[Tensor]:
        single_K, result = sketch_K.float(), []
        for shape, signs, shifts in zip(self.shapes, self._signs, self._shifts, strict=True):
            turned = torch.cat([single_K.roll(-shift) for shift in shifts])[: shape.numel()] if shifts else single_K[:0]
            result.append((turned * signs).view(shape))
        return result


def sketch_of(
    shapes: Sequence[torch.Size], size: int | None, seed: int = 0, device: torch.device | str = "cpu"
) -> Sketch:
    """All numbers where they are no more than `size`, or where it is None; else a count sketch."""
    if size is None or sum(shape.numel() for shape in shapes) <= size:
        return ExactSketch(shapes)
    return CountSketch(shapes, size, seed, device)
