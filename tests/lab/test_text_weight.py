"""How much a text counts: what it depends on, and what is learnt because of it."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from credit import weight as weights
from lab.text_weight import ending, expected_factor, factors, learnt_length, power_factor
from sampling.exact import enumerate_texts
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index

OTHERS = st.lists(st.integers(1, 40), min_size=3, max_size=3)


@given(OTHERS, OTHERS)
def test_under_a_fixed_denominator_a_text_counts_the_same_whatever_else_is_in_the_batch(one, other):
    for weight in (weights.constant, weights.seq_sum, weights.seq_mean):
        assert factors(weight, [7, *one], 40)[0] == factors(weight, [7, *other], 40)[0]


@given(OTHERS, OTHERS)
def test_under_token_mean_and_powers_a_text_counts_less_the_longer_the_others_are(one, other):
    for weight, gamma in ((weights.token_mean, 0.0), (weights.length_power, 0.5)):
        sums = [sum(n ** (1 - gamma) for n in (7, *others)) for others in (one, other)]
        found = [factors(weight, [7, *others])[0] for others in (one, other)]
        assert float(found[0] / found[1]) == pytest.approx(sums[1] / sums[0])


@given(st.data())
def test_full_packed_rows_make_token_mean_the_fixed_denominator_and_constant_the_one_that_moves(data):
    """However 64 tokens are cut into texts: the token mean is over 64, the constant over the number of texts."""
    found = []
    for _ in range(2):
        cuts = sorted(data.draw(st.sets(st.integers(8, 63), max_size=8)))
        found.append([7, *(b - a for a, b in zip([7, *cuts], [*cuts, 64], strict=True))])
    for lengths in found:
        assert float(factors(weights.token_mean, lengths)[0]) == pytest.approx(1 / 64)
        assert float(factors(weights.constant, lengths, 64)[0]) == pytest.approx(1 / (64 * len(lengths)))


SHARES_L = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3])


@pytest.mark.parametrize("texts", [1, 2, 3, 4])
def test_the_mean_factor_is_the_mean_over_all_batches(texts):
    found_L = expected_factor(SHARES_L, texts)
    for own in (1, 2, 4):
        mean = 0.0
        for others in product((1, 2, 4), repeat=texts - 1):
            chance = float(torch.stack([SHARES_L[n] for n in others]).prod()) if others else 1.0
            mean += chance * float(factors(weights.token_mean, [own, *others])[0])
        assert float(found_L[own]) == pytest.approx(texts * mean, rel=1e-6)


def test_token_mean_goes_from_the_sequence_mean_to_the_constant_as_batches_grow():
    lengths = [learnt_length(SHARES_L, expected_factor(SHARES_L, texts)) for texts in (1, 2, 4, 16, 64, 1024)]
    assert lengths == sorted(lengths)
    assert lengths[0] == pytest.approx(learnt_length(SHARES_L, power_factor(SHARES_L, 1.0)))
    mean = learnt_length(SHARES_L, power_factor(SHARES_L, 0.0))
    assert mean == pytest.approx(float(SHARES_L @ torch.arange(5.0)))
    assert lengths[3] < mean - 0.02 and mean - 0.002 < lengths[-1] < mean


@pytest.mark.parametrize("texts", [1, 2])
def test_the_data_reweighted_by_the_mean_factor_are_what_token_mean_learns(texts):
    """No gradient is left there in the loss averaged over all batches; at the data itself there is some."""
    limit = 3
    world = enumerate_texts(TabularModel.random(3, limit, seed=3, scale=1.0), limit, 1.0)
    data_X, lengths_X = world.log_p_X.exp(), world.lengths_X
    shares_L = torch.zeros(limit + 1, dtype=torch.float64).index_add_(0, lengths_X, data_X)
    reached_X = data_X * expected_factor(shares_L, texts)[lengths_X]
    for mass_X, is_optimum in ((reached_X / reached_X.sum(), True), (data_X, False)):
        counts_CV = torch.zeros(40, 3, dtype=torch.float64)
        for t in range(limit):
            there_X = world.tokens_XT[:, t] != PAD
            nodes = prefix_index(world.tokens_XT[there_X, :t], 3)
            counts_CV.index_put_((nodes, world.tokens_XT[there_X, t]), mass_X[there_X], accumulate=True)
        logits_CV = counts_CV.clamp(min=1e-300).log().requires_grad_()
        log_q_XT = torch.zeros(world.tokens_XT.shape, dtype=torch.float64)
        for t in range(limit):
            there_X = world.tokens_XT[:, t] != PAD
            nodes = prefix_index(world.tokens_XT[there_X, :t], 3)
            chosen = logits_CV[nodes].log_softmax(-1).gather(1, world.tokens_XT[there_X, t, None])[:, 0]
            log_q_XT = log_q_XT.index_put((there_X.nonzero()[:, 0], torch.tensor(t)), chosen)
        loss = 0.0
        for rows in product(range(len(data_X)), repeat=texts):
            rows = list(rows)
            factor_B = factors(weights.token_mean, lengths_X[rows].tolist())
            loss = loss - data_X[rows].prod() * (factor_B * log_q_XT[rows].sum(1)).sum()
        (gradient,) = torch.autograd.grad(loss, logits_CV)
        assert (gradient.abs().max() < 1e-12) == is_optimum


def test_reweighted_data_end_at_their_chances_of_ending():
    factor_L = power_factor(SHARES_L, 1.0)
    at_L, alive, mean = ending(SHARES_L, factor_L), 1.0, 0.0
    for n in range(1, 5):
        mean += alive * float(at_L[n]) * n
        alive *= 1 - float(at_L[n])
    assert mean == pytest.approx(learnt_length(SHARES_L, factor_L)) and alive == pytest.approx(0)
