"""Products of different batches: their loops, and what they leave out."""

from __future__ import annotations

import pytest
import torch

from lab.audit.products import products_of


def gradients(strategies: int = 3, batches: int = 6, parameters: int = 4) -> torch.Tensor:
    return torch.randn(strategies, batches, parameters, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gram(found: torch.Tensor) -> torch.Tensor:
    return torch.einsum("sbd,tcd->sbtc", found, found)


def by_loop(found: torch.Tensor, one: int, other: int) -> float:
    """Mean over ordered pairs of different batches."""
    batches = range(found.shape[1])
    pairs = [float(found[one, b] @ found[other, c]) for b in batches for c in batches if b != c]
    return sum(pairs) / len(pairs)


def test_means_are_those_of_a_loop_over_pairs_of_different_batches():
    found = gradients()
    products = products_of(gram(found))
    for one in range(3):
        for other in range(3):
            assert float(products.means_XSS[0, one, other]) == pytest.approx(by_loop(found, one, other))


def test_leaving_a_batch_out_is_the_same_as_never_having_had_it():
    found = gradients()
    products = products_of(gram(found))
    for left in range(6):
        fewer = products_of(gram(torch.cat([found[:, :left], found[:, left + 1 :]], dim=1)))
        torch.testing.assert_close(products.means_XSS[left + 1], fewer.means_XSS[0])
        torch.testing.assert_close(products.squares_XS[left + 1], fewer.squares_XS[0])


def test_signal_and_noise_are_unbiased_however_few_the_batches():
    """4,000 audits of 4 batches each; noise 20 times the signal in 5 parameters, two strategies that share half of it."""
    generator = torch.Generator().manual_seed(2)
    mean = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    noise = torch.randn(4000, 4, 5, generator=generator, dtype=torch.float64) * 2
    found = [products_of(gram(torch.stack([mean + each, 2 * mean + each]))) for each in noise]
    means = torch.stack([each.means_XSS[0] for each in found])
    error = means.std(dim=0) / len(found) ** 0.5
    assert ((means.mean(dim=0) - torch.tensor([[1.0, 2], [2, 4]])).abs() < 4 * error).all()
    noises = torch.stack([each.noise_XS[0] for each in found])
    assert ((noises.mean(dim=0) - 20).abs() < 4 * noises.std(dim=0) / len(found) ** 0.5).all()


def test_three_batches_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        products_of(gram(gradients(batches=3)))
