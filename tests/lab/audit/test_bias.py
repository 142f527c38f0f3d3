"""The angle between two expected gradients, on made-up gradients whose angle is known."""

from __future__ import annotations

import math

import pytest
import torch

from lab.audit.bias import Angle, angle, drawn_signs
from lab.audit.intervals import Bracket
from lab.audit.products import products_of

AUDITS = 100


def angles(sine: float, noise: float, batches: int = 12, shared: float = 0.0, seed: int = 0) -> list[Angle]:
    """Of a strategy turned by `sine` from a reference of length 1, in a plane. Noise of each is normal with `noise` in both
    directions; `shared` of the reference's is the strategy's too."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.tensor([[1.0, 0.0], [math.sqrt(1 - sine**2), sine]], dtype=torch.float64)
    found = []
    for _ in range(AUDITS):
        drawn = noise * torch.randn(2, batches, 2, generator=generator, dtype=torch.float64)
        drawn[1] = shared * drawn[0] + math.sqrt(1 - shared**2) * drawn[1]
        gradients = means[:, None] + drawn
        gram = torch.einsum("sbd,tcd->sbtc", gradients, gradients)
        found.append(angle(gram, products_of(gram), 1, 0))
    return found


@pytest.mark.parametrize(("sine", "noise"), [(0.0, 0.8), (0.5, 0.15), (0.5, 0.8), (0.9, 0.15)])
def test_the_interval_holds_the_angle(sine, noise):
    """Of 100 at nominal 95 %, fewer than 87 are chance below 1 in 1,000."""
    assert sum(each.sine.holds(sine) for each in angles(sine, noise)) >= 87


def test_where_there_is_no_bias_p_is_spread_evenly():
    """In a plane, what lies along the mean is half of all noise: were it left in, small p would be rare."""
    found = angles(0.0, 0.3)
    assert 10 <= sum(each.p <= 0.2 for each in found) <= 31
    assert 34 <= sum(each.p <= 0.5 for each in found) <= 66


def test_the_value_is_not_too_small_however_few_the_batches():
    """Fitting u takes something away from what is left of g, which is given back."""
    squares = torch.tensor([each.sine.value**2 for each in angles(0.6, 0.5, batches=8, seed=1)])
    assert abs(float(squares.mean()) - 0.36) < 2.5 * float(squares.std()) / math.sqrt(AUDITS)


def test_the_interval_of_a_clear_angle_is_narrow():
    """The sine's own standard error is 0.05 * sqrt((1 - 0.9^2) * 2 / 12) = 0.009; noise of the reference that the strategy is compared
    with is noise of their difference."""
    widths = sorted(each.sine.high - each.sine.low for each in angles(0.9, 0.05))
    assert 0.025 < widths[AUDITS // 2] < 0.05


def test_noise_that_both_share_cancels():
    alone, shared = (sum(each.sine.low > 0 for each in angles(0.2, 0.4, shared=part)) for part in (0.0, 0.99))
    assert alone < 70 and shared >= 95


def test_the_tangent_is_open_where_the_angle_may_be_a_right_one():
    unseen = Angle(Bracket(0.3, 0.1, 1.0), None, 0.2)
    assert unseen.tangent.high == math.inf and unseen.cosine.low == pytest.approx(-math.sqrt(0.99))
    seen = Angle(Bracket(0.6, 0.0, 0.8), True, 0.2)
    assert (seen.cosine.low, seen.cosine.value, seen.cosine.high) == pytest.approx((0.6, 0.8, 1.0))
    assert (seen.tangent.low, seen.tangent.value, seen.tangent.high) == pytest.approx((0, 0.75, 4 / 3))


def test_signs_are_the_same_at_every_call():
    assert torch.equal(drawn_signs(9), drawn_signs(9)) and set(drawn_signs(9).unique().tolist()) == {-1.0, 1.0}
