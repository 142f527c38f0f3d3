"""What the learned value baseline promises, by enumeration: unbiased at lambda 1 whatever the critic, less noise with a good one."""

from __future__ import annotations

import pytest
import torch

from configs.compose import compose_strategy
from credit import Strategy
from credit.baseline import none
from credit.critic import HeadSpec
from credit.critic.head import ValueHead
from credit.spread import Value
from credit.weight import constant
from lab.measure import critics
from lab.measure.declarations import enumerated, largest_enumeration

WORLDS = ("tiny", "tiny_turn", "tiny_turn:transformer", "poison", "two_turn")


def random_head(exact):
    """The shipped head with random weights, on an arbitrary state for each prefix."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(exact.tree.nodes, 8, generator=generator)[exact.tree.before_NT.clamp(min=0)]
    head = ValueHead(8, HeadSpec(init_std=1.0, mlp=4, seed=3))
    values_NT = head(states, exact.tree.mask_NT).detach().double()
    return values_NT.masked_fill(~exact.tree.mask_NT, 0.0)


@pytest.fixture(autouse=True)
def with_a_random_head(monkeypatch):
    monkeypatch.setitem(critics.CRITICS, "head", random_head)


def found(world: str, strategy, critic: str = "perfect"):
    return largest_enumeration(enumerated(world), strategy, critic)


@pytest.mark.parametrize("critic", ["random", "head", "perfect", "zero"])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", ["value", "value_prompt"])
def test_at_lambda_one_the_direction_is_exact_whatever_the_critic(name, world, critic):
    measured = found(world, compose_strategy([f"credit={name}"]), critic)
    assert measured["cosine"] == pytest.approx(1.0, abs=1e-12) and measured["relative_bias"] < 1e-6


@pytest.mark.parametrize("world", WORLDS)
def test_a_perfect_critic_makes_less_noise_than_the_other_rows_of_the_group(world):
    value, rloo = (found(world, compose_strategy([f"credit={name}"])) for name in ("value", "rloo"))
    assert value["nsr"] < 0.9 * rloo["nsr"]


def test_below_lambda_one_the_errors_of_a_critic_bend_the_direction():
    strategy = Strategy(constant, none, Value(lambda_=0.9), critic=HeadSpec())
    assert found("tiny_turn", strategy, "random")["relative_bias"] > 1e-3
    assert found("tiny_turn", strategy, "perfect")["relative_bias"] < 1e-9  # there are no errors to enter


def test_below_lambda_one_a_perfect_critic_makes_less_noise_still():
    noise = [found("tiny_turn", Strategy(constant, none, Value(x), critic=HeadSpec()))["nsr"] for x in (1.0, 0.5, 0.0)]
    assert noise[0] > noise[1] > noise[2]
