"""The identity p^alpha = q prod Z_t and everything that follows from it, on models small enough to enumerate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sampling.exact import enumerate_world, horizon_conditionals, mh_kernel, total_variation
from sampling.tabular import TabularModel

alphas = st.floats(0.3, 6.0)
seeds = st.integers(0, 1000)


@settings(max_examples=20, deadline=None)
@given(alphas, seeds, st.integers(2, 4), st.integers(1, 4))
def test_complete_texts_have_total_probability_one(alpha, seed, vocab, limit):
    world = enumerate_world(TabularModel.random(vocab, limit, seed=seed), limit, alpha)
    assert world.log_p_X.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert world.q_X.sum().item() == pytest.approx(1, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(alphas, seeds)
def test_power_of_p_is_q_times_the_product_of_z(alpha, seed):
    world = enumerate_world(TabularModel.random(3, 4, seed=seed), 4, alpha)
    difference_X = alpha * world.log_p_X - (world.log_q_XT + world.log_z_XT).sum(1)
    assert difference_X.abs().max() < 1e-12 * (1 + alpha * world.log_p_X.abs().max())


def test_the_two_temperatures_are_far_apart():
    world = enumerate_world(TabularModel.random(3, 4, seed=1), 4, 2.5)
    assert total_variation(world.q_X, world.target_X) > 0.2


def test_at_alpha_one_both_temperatures_are_the_model():
    world = enumerate_world(TabularModel.random(3, 4), 4, 1.0)
    assert torch.equal(world.q_X, world.log_p_X.exp())
    assert total_variation(world.q_X, world.target_X) < 1e-12


def test_independent_tokens_of_fixed_length_make_the_temperatures_agree():
    logits_V = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    logits_V[0] = -torch.inf  # no text ends early
    model = TabularModel(logits_V.repeat(1, 1 + 4 + 16, 1))
    world = enumerate_world(model, 3, 3.0)
    possible_X = world.log_p_X > -torch.inf
    assert total_variation(world.q_X[possible_X], world.target_X[possible_X]) < 1e-12


def test_large_alpha_puts_all_mass_on_the_likeliest_text():
    world = enumerate_world(TabularModel.random(3, 4, seed=18), 4, 200.0)
    assert world.target_X[world.log_p_X.argmax()].item() == pytest.approx(1, abs=1e-9)
    assert world.q_X[world.log_p_X.argmax()].item() < 1e-3  # greedy decoding is somewhere else


@settings(max_examples=10, deadline=None)
@given(alphas, seeds)
def test_metropolis_kernel_leaves_the_target_invariant(alpha, seed):
    world = enumerate_world(TabularModel.random(3, 4, seed=seed), 4, alpha)
    kernel_XX = mh_kernel(world)
    assert (kernel_XX.sum(1) - 1).abs().max() < 1e-12
    assert (world.target_X @ kernel_XX - world.target_X).abs().sum() < 1e-12


def test_proposals_capped_at_the_current_length_are_not_invariant():
    """The published rule, to show that the kernel test can fail: cut within the text, suffix no longer than the old."""
    world = enumerate_world(TabularModel.random(3, 4, seed=1), 4, 2.5)
    kernel_XX = torch.zeros(len(world.tokens_XT), len(world.tokens_XT), dtype=torch.float64)
    for x, length in enumerate(world.lengths_X.tolist()):
        for k in range(length):
            for y, other in enumerate(world.lengths_X.tolist()):
                if other <= length and torch.equal(world.tokens_XT[x, :k], world.tokens_XT[y, :k]):
                    ratio = (world.log_z_XT[y, k:].sum() - world.log_z_XT[x, k:].sum()).exp().clamp(max=1)
                    kernel_XX[x, y] += world.log_q_XT[y, k:].sum().exp() * ratio / length
        kernel_XX[x, x] += 1 - kernel_XX[x].sum()
    assert (world.target_X @ kernel_XX - world.target_X).abs().sum() > 1e-3


def _text_probabilities(model, conditionals_CV, world):
    tilted = enumerate_world(TabularModel(conditionals_CV.log()[None]), world.tokens_XT.shape[1], 1.0)
    return tilted.q_X


@settings(max_examples=10, deadline=None)
@given(alphas, seeds)
def test_horizon_one_is_token_temperature_and_the_whole_length_sequence_temperature(alpha, seed):
    model = TabularModel.random(3, 4, seed=seed)
    world = enumerate_world(model, 4, alpha)
    for horizon, goal_X in ((1, world.q_X), (4, world.target_X), (9, world.target_X)):
        conditionals_CV = horizon_conditionals(model, 4, alpha, horizon)
        assert total_variation(_text_probabilities(model, conditionals_CV, world), goal_X) < 1e-10


def test_longer_horizons_come_closer_to_sequence_temperature():
    model = TabularModel.random(3, 5, seed=1)
    world = enumerate_world(model, 5, 2.5)
    distances = [
        total_variation(_text_probabilities(model, horizon_conditionals(model, 5, 2.5, h), world), world.target_X)
        for h in (1, 2, 3, 5)
    ]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0.1 and distances[-1] < 1e-10
