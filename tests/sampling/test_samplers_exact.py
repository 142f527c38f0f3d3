"""Samplers against enumeration: chi-squared over at least 1e5 draws, predicted biases, unbiased normaliser."""

import itertools
import math

import pytest
import torch

from sampling.ancestral import TokenTemperature
from sampling.exact import enumerate_texts, total_variation
from sampling.mh import PowerSampling, SuffixMH
from sampling.particles import Particles
from sampling.rejection import Rejection
from sampling.smc import SMC, SNIS, systematic
from sampling.tabular import TabularModel

DRAWS, LIMIT, ALPHA = 100_000, 4, 2.5


@pytest.fixture(scope="module")
def model():
    return TabularModel.random(3, LIMIT, seed=1)


@pytest.fixture(scope="module")
def enumeration(model):
    return enumerate_texts(model, LIMIT, ALPHA)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_squared_p_value(counts_X, probabilities_X):
    """Cells expecting fewer than 5 are pooled; Wilson-Hilferty tail."""
    expected_X = counts_X.sum() * probabilities_X
    rare_X = expected_X < 5
    observed = torch.cat([counts_X[~rare_X].double(), counts_X[rare_X].sum()[None].double()])
    expected = torch.cat([expected_X[~rare_X], expected_X[rare_X].sum()[None]])
    filled = expected > 0
    statistic = ((observed - expected)[filled] ** 2 / expected[filled]).sum().item()
    freedom = int(filled.sum()) - 1
    score = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(score / math.sqrt(2))


# Sampler and longest text. The chains' explicit kernel is within 3e-4 of the target after 24 steps from q.
EXACT = {
    "rejection": (Rejection(max_rows=DRAWS), 4),
    "mh": (SuffixMH(steps=24, max_rows=DRAWS), 3),
    "power": (PowerSampling(steps=24, blocks=2, max_rows=DRAWS), 3),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_samplers_draw_from_sequence_temperature(name):
    sampler, limit = EXACT[name]
    model = TabularModel.random(3, limit, seed=1)
    enumeration = enumerate_texts(model, limit, ALPHA)
    draws = sampler(model, [[0]], 1 / ALPHA, DRAWS, limit, seeded())
    counts_X = enumeration.frequencies(draws.tokens_PST[0])
    assert total_variation(enumeration.q_X, enumeration.target_X) > 0.2
    assert chi_squared_p_value(counts_X, enumeration.target_X) > 1e-3
    # The expected distance of N draws is at most sum_x sqrt(p (1 - p) / (2 pi N)).
    noise = (enumeration.target_X * (1 - enumeration.target_X) / (2 * math.pi * DRAWS)).sqrt().sum().item()
    assert total_variation(counts_X / DRAWS, enumeration.target_X) < 2 * noise


def test_token_temperature_draws_from_q_and_not_from_the_target(model, enumeration):
    draws = TokenTemperature(max_rows=DRAWS)(model, [[0]], 1 / ALPHA, DRAWS, LIMIT, seeded())
    counts_X = enumeration.frequencies(draws.tokens_PST[0])
    assert chi_squared_p_value(counts_X, enumeration.q_X) > 1e-3
    assert chi_squared_p_value(counts_X, enumeration.target_X) < 1e-9


@pytest.mark.parametrize(
    "sampler", [TokenTemperature(), Rejection(), SMC(4), SNIS(4), SuffixMH(4), PowerSampling(2, 2)]
)
def test_at_tau_one_every_sampler_draws_from_the_model(sampler, model):
    enumeration = enumerate_texts(model, LIMIT, 1.0)
    sampler = type(sampler)(**{**sampler.__dict__, "max_rows": DRAWS})
    draws = sampler(model, [[0]], 1.0, 20_000, LIMIT, seeded())
    assert chi_squared_p_value(enumeration.frequencies(draws.tokens_PST[0]), enumeration.log_p_X.exp()) > 1e-3


def test_rejection_is_exact_above_temperature_one_too():
    model = TabularModel.random(2, 3, seed=2)
    enumeration = enumerate_texts(model, 3, 0.5)
    draws = Rejection(max_rows=20_000)(model, [[0]], 2.0, 20_000, 3, seeded())
    assert chi_squared_p_value(enumeration.frequencies(draws.tokens_PST[0]), enumeration.target_X) > 1e-3
    assert draws.log_normaliser_P.item() == pytest.approx(enumeration.log_normaliser.item(), abs=0.03)


def exact_snis(enumeration, particles):
    """Distribution of one text out of N, summed over all multisets of N texts."""
    weight_X = enumeration.log_z_XT.sum(1).exp()
    result_X = torch.zeros_like(weight_X)
    for pool in itertools.combinations_with_replacement(range(len(weight_X)), particles):
        index = torch.tensor(pool)
        copies = torch.unique(index, return_counts=True)[1]
        orders = math.factorial(particles) / math.prod(math.factorial(c) for c in copies.tolist())
        result_X.index_add_(0, index, orders * enumeration.q_X[index].prod() * weight_X[index] / weight_X[index].sum())
    return result_X


def test_importance_resampling_has_the_predicted_bias_and_it_falls_as_one_over_n():
    model = TabularModel.random(2, 3, seed=14, scale=1.0)
    enumeration = enumerate_texts(model, 3, 2.0)
    bias = {}
    for particles in (1, 2, 4, 8, 16):
        predicted_X = exact_snis(enumeration, particles)
        bias[particles] = total_variation(predicted_X, enumeration.target_X)
        if particles in (2, 4):
            draws = SNIS(particles, max_rows=10**6)(model, [[0]], 0.5, DRAWS, 3, seeded())
            counts_X = enumeration.frequencies(draws.tokens_PST[0])
            assert chi_squared_p_value(counts_X, predicted_X) > 1e-3
            assert chi_squared_p_value(counts_X, enumeration.target_X) < 1e-9  # the bias is there to be seen
    assert bias[1] > 0.2
    assert bias[1] == pytest.approx(total_variation(enumeration.q_X, enumeration.target_X), abs=1e-12)
    assert bias[8] / bias[16] == pytest.approx(2, rel=0.15)
    assert bias[4] / bias[16] == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_smc_normaliser_is_unbiased(threshold, model, enumeration):
    runs = 20_000
    draws = [
        SMC(8, threshold, max_rows=10**6)(model, [[0]], 1 / ALPHA, runs // 20, LIMIT, seeded(s)) for s in range(20)
    ]
    estimates = torch.stack([d.log_normaliser_P.exp() for d in draws]).double()
    error = (estimates.mean() - enumeration.log_normaliser.exp()) / (estimates.std() / math.sqrt(len(draws)))
    assert abs(error) < 4
    assert sum(d.extras["resamplings"].item() for d in draws) > 0.1
    assert estimates.std() / math.sqrt(20) < 0.003 * enumeration.log_normaliser.exp()  # so a bias of 1% would show


def test_smc_comes_closer_to_the_target_with_more_particles(model, enumeration):
    distance = {}
    for particles in (2, 32):
        draws = SMC(particles, 0.9, max_rows=10**6)(model, [[0]], 1 / ALPHA, 20_000, LIMIT, seeded())
        distance[particles] = total_variation(
            enumeration.frequencies(draws.tokens_PST[0]) / 20_000, enumeration.target_X
        )
    assert distance[2] > 0.05 and distance[32] < 0.02


def test_systematic_resampling_gives_every_particle_its_floor_or_ceiling_and_its_mean():
    log_w_UN = torch.randn(1, 7, dtype=torch.float64, generator=seeded()).expand(20_000, 7)
    picks = systematic(log_w_UN, 7, seeded(1))
    counts_UN = torch.zeros(20_000, 7, dtype=torch.float64).scatter_add_(1, picks, torch.ones(20_000, 7).double())
    share_N = 7 * log_w_UN[0].softmax(0)
    assert ((counts_UN - share_N).abs() < 1 + 1e-9).all()
    assert (counts_UN.mean(0) - share_N).abs().max() < 0.02


def test_several_prompts_are_sampled_each_from_its_own_target():
    model = TabularModel.random(3, 3, prompts=3, seed=8)
    for sampler in (SMC(16), SuffixMH(32), Rejection(), SNIS(16), TokenTemperature()):
        sampler = type(sampler)(**{**sampler.__dict__, "max_rows": 50_000})
        draws = sampler(model, [[2], [0], [1]], 0.5, 4000, 3, seeded())
        for place, prompt in enumerate((2, 0, 1)):
            enumeration = enumerate_texts(model, 3, 2.0, prompt)
            goal_X = enumeration.q_X if isinstance(sampler, TokenTemperature) else enumeration.target_X
            assert total_variation(enumeration.frequencies(draws.tokens_PST[place]) / 4000, goal_X) < 0.05
            assert draws.log_normaliser_P[place].item() == pytest.approx(enumeration.log_normaliser.item(), abs=0.08)


def test_log_probabilities_and_weights_are_those_of_the_returned_texts(model, enumeration):
    for sampler in (SMC(8), SuffixMH(8), Rejection(), SNIS(4), TokenTemperature(), PowerSampling(4, 2)):
        draws = sampler(model, [[0]], 1 / ALPHA, 100, LIMIT, seeded())
        index = enumeration.index_of(draws.tokens_PST[0])
        assert torch.allclose(draws.logps_PS[0].double(), enumeration.log_p_X[index], atol=1e-12)
        if isinstance(sampler, TokenTemperature):
            assert torch.allclose(draws.log_weights_PS[0], enumeration.log_z_XT.sum(1)[index], atol=1e-12)


def test_results_do_not_depend_on_where_ended_rows_leave_the_batch(model):
    rows = torch.zeros(500, dtype=torch.long)
    kept, shrunk = (Particles(model, [[0]], rows, LIMIT, ALPHA, keep_ended=k).finish(seeded(3)) for k in (True, False))
    assert torch.equal(kept.tokens_NT, shrunk.tokens_NT)
    assert torch.equal(kept.log_z_NT, shrunk.log_z_NT)


def test_effective_sample_size_and_cost_are_reported(model, enumeration):
    token = TokenTemperature(max_rows=DRAWS)(model, [[0]], 1 / ALPHA, DRAWS, LIMIT, seeded())
    weight_X = enumeration.log_z_XT.sum(1).exp()
    share = (enumeration.q_X * weight_X).sum() ** 2 / (enumeration.q_X * weight_X**2).sum()
    assert token.ess_P.item() / DRAWS == pytest.approx(share.item(), rel=0.01)
    mean_length = (enumeration.q_X * enumeration.lengths_X).sum().item()
    assert token.tokens_per_sample == pytest.approx(mean_length, rel=0.01)
    snis = SNIS(8, max_rows=DRAWS)(model, [[0]], 1 / ALPHA, 2000, LIMIT, seeded())
    assert snis.tokens_per_sample == pytest.approx(8 * mean_length, rel=0.02)
    rejection = Rejection(max_rows=DRAWS)(model, [[0]], 1 / ALPHA, 10_000, LIMIT, seeded())
    assert rejection.acceptance_P.item() == pytest.approx(enumeration.log_normaliser.exp().item(), rel=0.03)
    mh = SuffixMH(16, max_rows=DRAWS)(model, [[0]], 1 / ALPHA, 2000, LIMIT, seeded())
    assert 0.3 < mh.acceptance_P.item() < 1 and 1 <= mh.ess_P.item() <= 16


@pytest.mark.parametrize("tau", [0, -1.0, math.nan, math.inf, "cold"])
def test_impossible_temperatures_are_refused(tau, model):
    with pytest.raises(ValueError, match="positive number"):
        TokenTemperature()(model, [[0]], tau, 1, LIMIT)


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        (SMC, {"particles": 0}),
        (SMC, {"keep": 1.5}),
        (SNIS, {"particles": "many"}),
        (SuffixMH, {"steps": "two"}),
        (SuffixMH, {"steps": -1}),
        (PowerSampling, {"blocks": 0}),
        (Rejection, {"max_tokens": None}),
        (TokenTemperature, {"max_rows": 0}),
    ],
)
def test_settings_that_are_no_counts_are_refused_when_the_sampler_is_made(sampler, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}=.* whole number"):
        sampler(**settings)


def test_requests_that_cannot_work_name_the_remedy(model):
    with pytest.raises(ValueError, match="no prompts"):
        SMC()(model, [], 0.5, 1, LIMIT)
    with pytest.raises(ValueError, match="multiple of keep"):
        SMC(8, keep=2)(model, [[0]], 0.5, 3, LIMIT)
    with pytest.raises(ValueError, match="lower max_length"):
        SMC()(model, [[0]], 0.5, 1, 9)
    with pytest.raises(ValueError, match="no end-of-text token"):
        SMC()(TabularModel(model.logits_PCV, eos_ids=()), [[0]], 0.5, 1, 2)
    with pytest.raises(ValueError, match="sampler=smc"):
        Rejection(max_tokens=10, max_rows=4)(TabularModel.random(4, 6), [[0]], 0.01, 1000, 6, seeded())
