"""Sketches keep inner products, and their error is within the bound that is stated."""

from __future__ import annotations

import pytest
import torch

from trainers.audit.sketch import CountSketch, ExactSketch, sketch_of

SHAPES = [torch.Size((7, 11)), torch.Size(()), torch.Size((40,)), torch.Size((3, 5, 4))]


def vectors(seed: int, spiky: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return [tensor.pow(5) for tensor in made] if spiky else made


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).double()


@pytest.mark.parametrize("spiky", [False, True])
def test_inner_products_of_count_sketches_have_the_right_mean_and_no_more_than_the_stated_variance(spiky):
    one, other = vectors(0, spiky), vectors(1, spiky)
    x, y = flat(one), flat(other)
    size, draws = 32, 600
    found = torch.tensor([(s := CountSketch(SHAPES, size, seed)).of(one) @ s.of(other) for seed in range(draws)])
    bound = (x.square().sum() * y.square().sum() + (x @ y) ** 2) / size
    assert abs(found.mean() - x @ y) < 4 * (bound / draws) ** 0.5
    assert found.var() < 1.3 * bound
    assert found.var() > 0.1 * bound  # a sketch that loses nothing would be another test's


def test_sketches_are_linear_and_the_transposed_map_is_their_transpose():
    for sketch in (CountSketch(SHAPES, 16, seed=3), ExactSketch(SHAPES)):
        one, other = vectors(0), vectors(1)
        both = [2 * a - 3 * b for a, b in zip(one, other, strict=True)]
        torch.testing.assert_close(sketch.of(both), 2 * sketch.of(one) - 3 * sketch.of(other), rtol=1e-5, atol=1e-5)
        weights_K = torch.randn(sketch.size, dtype=torch.float64)
        torch.testing.assert_close(
            flat(sketch.back(weights_K)) @ flat(one), weights_K @ sketch.of(one), rtol=1e-5, atol=1e-4
        )


def test_a_gradient_that_is_small_enough_is_kept_whole():
    one, other = vectors(0), vectors(1)
    sketch = sketch_of(SHAPES, size=1000)
    assert sketch.kind == "exact" and sketch.size == len(flat(one))
    assert sketch.of(one) @ sketch.of(other) == flat(one) @ flat(other)
    assert sketch_of(SHAPES, size=100).kind == "count"
    assert sketch_of(SHAPES, size=None).kind == "exact"


def test_a_parameter_that_no_loss_reaches_counts_as_zeros():
    some = vectors(0)
    zeros = [some[0], *(torch.zeros_like(tensor) for tensor in some[1:])]
    missing = [some[0], *(None for _ in some[1:])]
    for sketch in (CountSketch(SHAPES, 16), ExactSketch(SHAPES)):
        assert torch.equal(sketch.of(missing), sketch.of(zeros))
