"""The value head and its losses."""

from __future__ import annotations

import pytest
import torch

from credit.critic import AdapterSpec, DecompositionSpec, HeadSpec, SeparateSpec
from credit.critic.head import ValueHead, value_loss


def states(seed: int = 0):
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(seed))


VISIBLE = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None]


def test_at_first_every_value_is_the_same_constant():
    assert (ValueHead(5, HeadSpec())(states(), VISIBLE) == 0).all()
    head = ValueHead(5, HeadSpec(loss="cross_entropy", mlp=8))
    assert (head.values(head(states(), VISIBLE)) == 0.5).all()


def test_building_a_head_moves_no_random_number_of_the_run():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ValueHead(5, HeadSpec(mlp=8, init_std=0.1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_running_head_adds_up_one_contribution_for_each_token_read():
    head = ValueHead(5, HeadSpec(running=True, init_std=1.0))
    found, read = head(states(), VISIBLE), head.readout(states())
    for b in range(3):
        total = 0.0
        for t in range(7):
            if t > 0 and VISIBLE[b, t]:
                total += read[b, t, 1].item()
            assert found[b, t].item() == pytest.approx(read[b, t, 0].item() + total, abs=1e-5)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("mlp", [0, 6])
def test_a_value_knows_only_the_states_up_to_its_own(running, mlp):
    head = ValueHead(5, HeadSpec(running=running, mlp=mlp, init_std=1.0))
    changed = states()
    changed[:, 4:] += 1.0
    assert torch.equal(head(states(), VISIBLE)[:, :4], head(changed, VISIBLE)[:, :4])


def test_states_in_half_precision_are_read_in_full():
    head = ValueHead(5, HeadSpec(init_std=1.0))
    assert head(states().bfloat16(), VISIBLE).dtype == torch.float32


def test_clipping_keeps_the_larger_of_two_losses():
    spec = HeadSpec(clip_range=0.2)
    raw, target, first = torch.tensor([[0.5, 0.1, 0.9]]), torch.tensor([[1.0, 1.0, 0.0]]), torch.zeros(1, 3)
    # clipped to 0.2, 0.1, 0.2: squared errors 0.64 > 0.25, 0.81 = 0.81, 0.04 < 0.81
    assert torch.allclose(value_loss(raw, target, first, spec), torch.tensor([[0.32, 0.405, 0.405]]))


def test_cross_entropy_is_least_at_the_outcome_itself():
    spec, target = HeadSpec(loss="cross_entropy"), torch.tensor([[0.3]])
    raw = torch.tensor([[0.3]]).logit()
    best = value_loss(raw, target, raw, spec)
    assert all(value_loss(raw + step, target, raw, spec) > best for step in (-0.1, 0.1))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (HeadSpec, {"loss": "hinge"}),
        (HeadSpec, {"at": "everywhere"}),
        (HeadSpec, {"learning_rate": -1.0}),
        (HeadSpec, {"lambda_": 1.5}),
        (HeadSpec, {"clip_range": 0.2, "loss": "cross_entropy"}),
        (AdapterSpec, {"running": True, "at": "prompt"}),
        (SeparateSpec, {"max_grad_norm": 0.0}),
        (DecompositionSpec, {"ridge": 0.0}),
        (DecompositionSpec, {"forgetting": 1.1}),
    ],
)
def test_contradictory_specifications_are_refused(kind, options):
    with pytest.raises(ValueError, match="critic"):
        kind(**options)
