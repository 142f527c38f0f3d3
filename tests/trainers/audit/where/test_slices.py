"""Every learning token is in one slice of each kind, and slopes are those of autograd."""

from __future__ import annotations

import pytest
import torch

from trainers.audit.where.slices import edges_of, slices_of, sums_by_slice
from trainers.audit.where.slopes import slopes_BT

MASK_BT = torch.tensor(
    [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]]
).bool()


def test_slices_part_the_tokens_that_learn():
    edges = edges_of(widths=[7, 3, 0, 1], lengths=[5, 3, 0, 1], turns=2)
    assert edges.position[0] == 0 and edges.position[-1] == 7 and edges.turn == (0, 1, 2)
    values_BT = torch.rand(MASK_BT.shape)
    for kind, slice_BT in slices_of(MASK_BT, edges).items():
        assert (slice_BT[~MASK_BT] == -1).all() and (slice_BT[MASK_BT] >= 0).all()
        sums_N = sums_by_slice(values_BT, slice_BT, int(slice_BT.max()) + 1)
        assert sums_N.sum() == pytest.approx(float(values_BT[MASK_BT].sum()), rel=1e-5), kind
    assert slices_of(MASK_BT, edges)["turn"][0].tolist() == [0, 0, -1, -1, 1, 1, 1]
    position_BT = slices_of(MASK_BT, edges)["position"]
    assert all(
        edges.position[n] <= t < edges.position[n + 1]
        for row in position_BT.tolist()
        for t, n in enumerate(row)
        if n >= 0
    )


@pytest.mark.parametrize("lengths", [[1], [4, 4, 4, 4], [0, 0, 9], list(range(40))])
def test_edges_rise_and_hold_every_length(lengths):
    edges = edges_of(widths=lengths, lengths=lengths, turns=1)
    for own in (edges.position, edges.length, edges.turn):
        assert list(own) == sorted(set(own)) and len(own) > 1
    assert edges.length[0] <= min(lengths) and max(lengths) < edges.length[-1]


def test_slopes_are_those_of_autograd_and_the_parameters_stay_to_the_bit():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 7))
    inputs = torch.randn(4, 5)
    parameters = list(layers.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]

    def logps():
        return layers(inputs).log_softmax(-1)

    before = [parameter.detach().clone() for parameter in parameters]
    found_BT = slopes_BT(lambda: logps().detach(), parameters, direction, MASK_BT)
    expected_BT = torch.zeros_like(found_BT)
    for place in MASK_BT.nonzero().tolist():
        gradient = torch.autograd.grad(logps()[tuple(place)], parameters)
        expected_BT[tuple(place)] = sum((g * u).sum() for g, u in zip(gradient, direction, strict=True))
    assert (found_BT - expected_BT).norm() / expected_BT.norm() < 1e-3
    assert all(torch.equal(now, then) for now, then in zip(parameters, before, strict=True))


def test_a_direction_that_moves_nothing_is_refused_and_none_at_all_is_zero():
    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="float32"):
        slopes_BT(lambda: torch.zeros(MASK_BT.shape), [parameter], [torch.ones(3)], MASK_BT)
    assert not slopes_BT(lambda: torch.zeros(MASK_BT.shape), [parameter], [torch.zeros(3)], MASK_BT).any()
    assert not slopes_BT(lambda: torch.zeros(MASK_BT.shape), [parameter], [torch.ones(3)], MASK_BT & False).any()
