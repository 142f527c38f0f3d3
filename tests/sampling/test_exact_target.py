"""The identity p^alpha = q prod Z_t and everything that follows from it, on models small enough to enumerate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sampling.exact import enumerate_texts, horizon_conditionals, mh_kernel, total_variation
from sampling.tabular import TabularModel

alphas = st.floats(0.3, 6.0)
seeds = st.integers(0, 1000)


@settings(max_examples=20, deadline=None)
@given(alphas, seeds, st.integers(2, 4), st.integers(1, 4))
def test_complete_texts_have_total_probability_one(alpha, seed, vocab, limit):
    enumeration = enumerate_texts(TabularModel.random(vocab, limit, seed=seed), limit, alpha)
    assert enumeration.log_p_X.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert enumeration.q_X.sum().item() == pytest.approx(1, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(alphas, seeds)
def test_power_of_p_is_q_times_the_product_of_z(alpha, seed):
    enumeration = enumerate_texts(TabularModel.random(3, 4, seed=seed), 4, alpha)
    difference_X = alpha * enumeration.log_p_X - (enumeration.log_q_XT + enumeration.log_z_XT).sum(1)
    assert difference_X.abs().max() < 1e-12 * (1 + alpha * enumeration.log_p_X.abs().max())


def test_the_two_temperatures_are_far_apart():
    enumeration = enumerate_texts(TabularModel.random(3, 4, seed=1), 4, 2.5)
    assert total_variation(enumeration.q_X, enumeration.target_X) > 0.2


def test_at_alpha_one_both_temperatures_are_the_model():
    enumeration = enumerate_texts(TabularModel.random(3, 4), 4, 1.0)
    assert torch.equal(enumeration.q_X, enumeration.log_p_X.exp())
    assert total_variation(enumeration.q_X, enumeration.target_X) < 1e-12


def test_independent_tokens_of_fixed_length_make_the_temperatures_agree():
    logits_V = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    logits_V[0] = -torch.inf  # no text ends early
    model = TabularModel(logits_V.repeat(1, 1 + 4 + 16, 1))
    enumeration = enumerate_texts(model, 3, 3.0)
    possible_X = enumeration.log_p_X > -torch.inf
    assert total_variation(enumeration.q_X[possible_X], enumeration.target_X[possible_X]) < 1e-12


def test_large_alpha_puts_all_mass_on_the_likeliest_text():
    enumeration = enumerate_texts(TabularModel.random(3, 4, seed=18), 4, 200.0)
    assert enumeration.target_X[enumeration.log_p_X.argmax()].item() == pytest.approx(1, abs=1e-9)
    assert enumeration.q_X[enumeration.log_p_X.argmax()].item() < 1e-3  # greedy decoding is somewhere else


@settings(max_examples=10, deadline=None)
@given(alphas, seeds)
def test_metropolis_kernel_leaves_the_target_invariant(alpha, seed):
    enumeration = enumerate_texts(TabularModel.random(3, 4, seed=seed), 4, alpha)
    kernel_XX = mh_kernel(enumeration)
    assert (kernel_XX.sum(1) - 1).abs().max() < 1e-12
    assert (enumeration.target_X @ kernel_XX - enumeration.target_X).abs().sum() < 1e-12


def test_proposals_capped_at_the_current_length_are_not_invariant():
    """The published rule, to show that the kernel test can fail: cut within the text, suffix no longer than the old."""
    enumeration = enumerate_texts(TabularModel.random(3, 4, seed=1), 4, 2.5)
    kernel_XX = torch.zeros(len(enumeration.tokens_XT), len(enumeration.tokens_XT), dtype=torch.float64)
    for x, length in enumerate(enumeration.lengths_X.tolist()):
        for k in range(length):
            for y, other in enumerate(enumeration.lengths_X.tolist()):
                if other <= length and torch.equal(enumeration.tokens_XT[x, :k], enumeration.tokens_XT[y, :k]):
                    ratio = (enumeration.log_z_XT[y, k:].sum() - enumeration.log_z_XT[x, k:].sum()).exp().clamp(max=1)
                    kernel_XX[x, y] += enumeration.log_q_XT[y, k:].sum().exp() * ratio / length
        kernel_XX[x, x] += 1 - kernel_XX[x].sum()
    assert (enumeration.target_X @ kernel_XX - enumeration.target_X).abs().sum() > 1e-3


def _text_probabilities(model, conditionals_CV, enumeration):
    tilted = enumerate_texts(TabularModel(conditionals_CV.log()[None]), enumeration.tokens_XT.shape[1], 1.0)
    return tilted.q_X


@settings(max_examples=10, deadline=None)
@given(alphas, seeds)
def test_horizon_one_is_token_temperature_and_the_whole_length_sequence_temperature(alpha, seed):
    model = TabularModel.random(3, 4, seed=seed)
    enumeration = enumerate_texts(model, 4, alpha)
    for horizon, goal_X in ((1, enumeration.q_X), (4, enumeration.target_X), (9, enumeration.target_X)):
        conditionals_CV = horizon_conditionals(model, 4, alpha, horizon)
        assert total_variation(_text_probabilities(model, conditionals_CV, enumeration), goal_X) < 1e-10


def test_longer_horizons_come_closer_to_sequence_temperature():
    model = TabularModel.random(3, 5, seed=1)
    enumeration = enumerate_texts(model, 5, 2.5)
    distances = [
        total_variation(
            _text_probabilities(model, horizon_conditionals(model, 5, 2.5, h), enumeration), enumeration.target_X
        )
        for h in (1, 2, 3, 5)
    ]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0.1 and distances[-1] < 1e-10
