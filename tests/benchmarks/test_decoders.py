"""The batched decoder of the span benchmarks is, policy by policy, the single one."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "doors"))
from decoders import Decoders
from spans_decoder import Decoder, K, V


@pytest.fixture
def policies():
    torch.manual_seed(0)
    made = [Decoder() for _ in range(3)]
    for policy in made:
        for parameter in policy.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def test_side_by_side_gives_the_logits_and_clipped_gradients_of_each_alone(policies):
    together, tokens_SBT = Decoders(policies), torch.randint(V, (3, 4, K))
    alone = torch.stack([policy(tokens_BT) for policy, tokens_BT in zip(policies, tokens_SBT, strict=True)])
    logits = together(tokens_SBT)
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
    together, uniforms_SBT = Decoders(policies), torch.rand(3, 4, K)
    letters_SBT = together.sample(uniforms_SBT, V)
    inputs_SBT = torch.cat([torch.full((3, 4, 1), V), letters_SBT[..., :-1]], 2)
    below = together(inputs_SBT).softmax(-1).cumsum(-1)
    at = below.gather(3, letters_SBT[..., None])[..., 0]
    before = at - together(inputs_SBT).softmax(-1).gather(3, letters_SBT[..., None])[..., 0]
    last = letters_SBT == V - 1
    assert ((uniforms_SBT <= at + 1e-5) | last).all() and (uniforms_SBT >= before - 1e-5).all()
