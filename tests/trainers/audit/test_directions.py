"""Backward passes are shared where strategies allow it, and lose nothing."""

from __future__ import annotations

import torch

from trainers.audit.directions import directions_of


def test_the_directions_give_all_coefficients_back():
    coefficients_SN = torch.randn(6, 40, dtype=torch.float64)
    weights_SR, directions_RN = directions_of(coefficients_SN)
    assert len(directions_RN) == 6
    torch.testing.assert_close(weights_SR @ directions_RN, coefficients_SN)
    torch.testing.assert_close(directions_RN @ directions_RN.T, torch.eye(6, dtype=torch.float64))


def test_strategies_that_are_constant_over_a_row_share_one_backward_pass_of_it():
    tokens_N = torch.cat([torch.ones(9), torch.zeros(4)]).double()
    constant_SN = torch.tensor([0.3, -2.0, 0.0, 1e-3])[:, None] * tokens_N  # float32 factors, as of a loss
    varying_SN = torch.randn(2, 13, dtype=torch.float64) * tokens_N
    weights_SR, directions_RN = directions_of(torch.cat([constant_SN, varying_SN]))
    assert len(directions_RN) == 3
    torch.testing.assert_close(weights_SR @ directions_RN, torch.cat([constant_SN, varying_SN]))


def test_a_small_difference_is_a_direction_and_a_rounding_error_is_none():
    base_N = torch.randn(50, dtype=torch.float64)
    other_N = torch.randn(50, dtype=torch.float64)
    assert len(directions_of(torch.stack([base_N, 3 * base_N + 1e-5 * other_N]))[1]) == 2
    assert len(directions_of(torch.stack([base_N, (3 * base_N.float()).double()]))[1]) == 1


def test_nothing_to_learn_needs_no_backward_pass():
    assert directions_of(torch.zeros(3, 5, dtype=torch.float64))[1].shape == (0, 5)
