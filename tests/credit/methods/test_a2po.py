"""A*-PO as a strategy: its credit is what the gradient of the paper's square asks for."""

from __future__ import annotations

import pytest
import torch

from credit.methods.a2po import optimal_advantage


def test_its_credit_gives_the_gradient_of_the_papers_square():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 6, dtype=torch.float64, generator=generator).requires_grad_()
    taken_BT = torch.randint(6, (5, 4), generator=generator)
    mask_BT = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    ref_BT = -torch.rand(5, 4, dtype=torch.float64, generator=generator)
    rewards_B = torch.tensor([1.0, 0.0, 0.5, float("nan"), 1.0], dtype=torch.float64)
    value_B, pull = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.1], dtype=torch.float64), 0.3
    logps_BT = logits.log_softmax(-1).gather(-1, taken_BT[..., None])[..., 0]
    credit_B = optimal_advantage(rewards_B, mask_BT, value_B, logps_BT.detach(), ref_BT, pull)
    ours = torch.autograd.grad(-(credit_B[:, None] * logps_BT * mask_BT).sum(), logits, retain_graph=True)[0]
    square = 0.0
    for b in range(5):
        if not rewards_B[b].isnan():
            moved = sum(logps_BT[b, t] - ref_BT[b, t] for t in range(4) if mask_BT[b, t])
            square = square + (pull * moved - (rewards_B[b] - value_B[b])) ** 2
    papers = torch.autograd.grad(square, logits)[0]
    assert (2 * pull * ours - papers).abs().max() < 1e-12 and papers.abs().max() > 0.01


def test_a_negative_pull_is_refused():
    one = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="pull=-1"):
        optimal_advantage(torch.zeros(1), one.bool(), torch.zeros(1), one, one, pull=-1.0)
