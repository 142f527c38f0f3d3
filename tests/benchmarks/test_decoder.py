"""The batched decoder of the doors benchmarks is, policy by policy, the single one."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "doors"))
from decoder import DOORS, ROWS, AdamOfEach, Decoder, Decoders, V, by_generators, by_uniforms


@pytest.fixture
def policies():
    torch.manual_seed(0)
    made = [Decoder() for _ in range(3)]
    for policy in made:
        for parameter in policy.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def test_side_by_side_gives_the_logits_and_clipped_gradients_of_each_alone(policies):
    together, tokens_SBT = Decoders(policies), torch.randint(V, (3, ROWS, DOORS))
    alone = torch.stack([policy(tokens_BT) for policy, tokens_BT in zip(policies, tokens_SBT, strict=True)])
    logits = together(tokens_SBT)[1]
    torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)
    logits.square().sum().backward()
    alone.square().sum().backward()
    together.clip(1.0)
    for policy in policies:
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    for name, parameter in together.named_parameters():
        expected = [{n.replace(".", "_"): p.grad for n, p in policy.named_parameters()}[name] for policy in policies]
        torch.testing.assert_close(parameter.grad, torch.stack(expected), atol=1e-5, rtol=1e-3)


def test_letters_are_drawn_from_the_distribution_after_the_letters_before_them(policies):
    together, uniforms_SBT = Decoders(policies), torch.rand(3, ROWS, DOORS)
    letters_SBT = together.sample(by_uniforms(uniforms_SBT))
    inputs_SBT = torch.cat([torch.full((3, ROWS, 1), V), letters_SBT[..., :-1]], 2)
    below = together(inputs_SBT)[1].softmax(-1).cumsum(-1)
    at = below.gather(3, letters_SBT[..., None])[..., 0]
    before = at - together(inputs_SBT)[1].softmax(-1).gather(3, letters_SBT[..., None])[..., 0]
    last = letters_SBT == V - 1
    assert ((uniforms_SBT <= at + 1e-5) | last).all() and (uniforms_SBT >= before - 1e-5).all()


def test_a_decoder_draws_and_learns_as_if_it_were_alone(policies):
    """Three side by side, each with a rate of its own, and the same three in batches of one."""
    rates = [1e-3, 5e-4, 2e-4]
    together, alone = Decoders(policies), [Decoders([policy]) for policy in policies]
    before = together.head_weight.detach().clone()
    steps = [AdamOfEach(together, rates), *(AdamOfEach(each, [rate]) for each, rate in zip(alone, rates, strict=True))]
    letters_SBT = together.sample(by_generators([torch.Generator().manual_seed(seed) for seed in range(3)]))
    for seed, each in enumerate(alone):
        assert torch.equal(each.sample(by_generators([torch.Generator().manual_seed(seed)]))[0], letters_SBT[seed])
    for _ in range(2):
        together(letters_SBT)[1].square().sum().backward()
        for row, each in enumerate(alone):
            each(letters_SBT[row : row + 1])[1].square().sum().backward()
        for optimiser in steps:
            optimiser.step()
    for name, parameter in together.named_parameters():
        wanted = torch.cat([dict(each.named_parameters())[name] for each in alone])
        torch.testing.assert_close(parameter, wanted, atol=1e-5, rtol=1e-4)
    assert (together.head_weight - before).abs().amax() > 5e-4
