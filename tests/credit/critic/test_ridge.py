"""The linear value head in closed form."""

from __future__ import annotations

import pytest
import torch

from credit.critic import RidgeSpec
from credit.critic.ridge import RidgeHead

D, VISIBLE = 6, torch.arange(5)[None] < torch.tensor([5, 3, 4, 1] * 8)[:, None]


def batch(seed: int, noise: float = 0.0, level: float = 0.0):
    """States and outcomes that are linear in them, up to noise."""
    generator = torch.Generator().manual_seed(seed)
    states_BTD = torch.randn(32, 5, D, generator=generator)
    slope_D = torch.arange(1.0, D + 1) / 10
    targets_BT = states_BTD @ slope_D + level + noise * torch.randn(32, 5, generator=generator)
    return states_BTD, VISIBLE, targets_BT, VISIBLE / VISIBLE.sum()


def after(batches, **options) -> RidgeHead:
    head = RidgeHead(D, **options)
    for each in batches:
        head.learn(head.sums(*each))
    return head


def test_the_fit_is_the_ridge_regression_of_a_textbook():
    one = batch(0, noise=0.5, level=0.7)
    head = after([one], ridge=0.3)
    states_BTD, mask_BT, targets_BT, _ = one
    x, g = states_BTD[mask_BT].double(), targets_BT[mask_BT].double()
    x, g = x - x.mean(0), g - g.mean()
    covariance = x.T @ x / len(x)
    penalty = 0.3 * covariance.diagonal().mean()
    expected = torch.linalg.inv(covariance + penalty * torch.eye(D).double()) @ (x.T @ g / len(x))
    assert torch.allclose(head.weights_X, expected, rtol=1e-5)


@pytest.mark.parametrize("running", [False, True])
def test_sums_of_pieces_are_the_sums_of_the_whole(running):
    head = after([batch(0)], running=running)
    whole = batch(1, noise=0.5)
    parts = [tuple(each[rows] for each in whole) for rows in (slice(0, 5), slice(5, 32))]
    assert torch.allclose(head.sums(*whole), sum(head.sums(*part) for part in parts), rtol=1e-12, atol=1e-12)


def test_what_is_linear_is_found_and_not_shrunk():
    head = after([batch(seed, level=0.5) for seed in range(20)], ridge=1e-6)
    states_BTD, visible_BT, targets_BT, _ = batch(99, level=0.5)
    assert head.shrinkage == pytest.approx(1.0, abs=1e-3)
    left = (head(states_BTD, visible_BT) - targets_BT)[VISIBLE]
    assert left.var() < 0.01 * targets_BT[VISIBLE].var()


def test_what_cannot_be_predicted_is_left_at_the_level():
    generator = torch.Generator().manual_seed(0)
    rows = []
    for seed in range(30):
        states_BTD, visible_BT, _, weights_BT = batch(seed)
        rows.append((states_BTD, visible_BT, 0.6 + torch.randn(32, 5, generator=generator), weights_BT))
    head = after(rows)
    assert head.shrinkage < 0.3
    assert head(*batch(99)[:2])[VISIBLE].mean().item() == pytest.approx(0.6, abs=0.15)


def test_the_level_follows_the_last_batches():
    head = after([batch(seed, level=0.0) for seed in range(20)] + [batch(20 + seed, level=5.0) for seed in range(5)])
    assert head(*batch(99)[:2])[VISIBLE].mean().item() == pytest.approx(5.0, abs=0.6)


def test_a_batch_without_weight_teaches_nothing():
    head, other = after([batch(0)]), after([batch(0)])
    states_BTD, visible_BT, targets_BT, weights_BT = batch(1)
    other.learn(other.sums(states_BTD, visible_BT, targets_BT, torch.zeros_like(weights_BT)))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_a_running_sum_counts_what_was_read_before():
    head = RidgeHead(D, running=True)
    states_BTD, visible_BT, _, _ = batch(0)
    x = head.features(states_BTD, visible_BT)
    for b in range(4):
        for t in range(5):
            read = [states_BTD[b, s].double() for s in range(1, t + 1) if visible_BT[b, s]]
            expected = torch.stack(read).sum(0) if read else torch.zeros(D).double()
            assert torch.allclose(x[b, t, D:], expected, atol=1e-12)


@pytest.mark.parametrize("options", [{"ridge": 0.0}, {"forgetting": 0.0}, {"lambda_": 2.0}, {"at": "end"}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="ridge critic"):
        RidgeSpec(**options)
