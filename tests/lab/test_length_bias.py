"""The optimum of weighted likelihood: what it is, that it is one, and which way it leans."""

import functools

import pytest
import torch

from credit import weight as weights
from credit.strategy import Strategy
from lab.length_bias import learnt, main, optimum, repeated_pairs
from sampling.exact import enumerate_texts
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index

LIMIT = 4


def world_of(seed=1):
    model = TabularModel.random(3, LIMIT, seed=seed, scale=1.0)
    return model, enumerate_texts(model, LIMIT, 1.0)


@pytest.mark.parametrize("weight", [weights.token_mean, weights.seq_sum, weights.constant])
def test_weights_that_are_the_same_for_every_token_learn_the_data(weight):
    model, _ = world_of()
    found = learnt(model, Strategy(weight=weight), LIMIT)
    assert found.distance < 1e-12 and found.length == pytest.approx(found.data_length, abs=1e-12)


def test_sequence_mean_learns_the_data_tilted_by_expected_inverse_length():
    model, enumeration = world_of()
    learnt_C = optimum(model, enumeration, Strategy(weight=weights.seq_mean)).logits_PCV[0].softmax(-1)
    data_X, lengths_X = enumeration.log_p_X.exp(), enumeration.lengths_X.double()
    for prefix in ([], [1], [2, 1]):
        wanted = []
        for token in range(3):
            continues_X = (enumeration.tokens_XT[:, : len(prefix) + 1] == torch.tensor([*prefix, token])).all(1)
            wanted.append((data_X[continues_X] / lengths_X[continues_X]).sum())
        wanted = torch.stack(wanted)
        at = prefix_index(torch.tensor([prefix], dtype=torch.long).view(1, -1), 3)[0]
        assert torch.allclose(learnt_C[at], wanted / wanted.sum(), atol=1e-12)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, 1.0, 2.0])
def test_the_predicted_conditionals_have_no_gradient_left(gamma):
    model, enumeration = world_of()
    weight = functools.partial(weights.length_power, gamma=gamma)
    for conditionals, is_optimum in ((optimum(model, enumeration, Strategy(weight=weight)), True), (model, False)):
        logits_CV = conditionals.logits_PCV[0].clamp(min=-50).clone().requires_grad_()
        loss = 0.0
        for t in range(LIMIT):
            there_X = enumeration.tokens_XT[:, t] != PAD
            nodes = prefix_index(enumeration.tokens_XT[there_X, :t], 3)
            log_q = logits_CV[nodes].log_softmax(-1).gather(1, enumeration.tokens_XT[there_X, t, None])[:, 0]
            row_X = enumeration.log_p_X[there_X].exp() * enumeration.lengths_X[there_X].double() ** -gamma
            loss = loss - (row_X * log_q).sum()
        (gradient,) = torch.autograd.grad(loss, logits_CV)
        assert (gradient.abs().max() < 1e-12) == is_optimum


@pytest.mark.parametrize("seed", range(5))
def test_sequence_mean_shortens_and_the_opposite_lengthens(seed):
    model, _ = world_of(seed)
    changes = []
    for gamma in (-1.0, 0.0, 0.5, 1.0, 2.0):
        found = learnt(model, Strategy(weight=functools.partial(weights.length_power, gamma=gamma)), LIMIT)
        changes.append(found.length - found.data_length)
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0.01 and changes[1] == pytest.approx(0, abs=1e-12) and changes[3] < -0.01


def test_repeated_pairs_are_counted_within_a_text():
    rows = torch.tensor([[1, 2, 1, 2, 0], [1, 2, 0, PAD, PAD], [0, PAD, PAD, PAD, PAD]])
    assert torch.allclose(repeated_pairs(rows), torch.tensor([0.25, 0.0, 0.0], dtype=torch.float64))


def test_the_command_names_the_nearest_weight():
    with pytest.raises(SystemExit, match="seq_mean"):
        main(["weight=seq_means"])


def test_repetition_at_equal_lengths_is_what_lengths_do_not_explain():
    model, enumeration = world_of()
    found = learnt(model, Strategy(weight=weights.seq_mean), LIMIT)
    reached_X = enumerate_texts(optimum(model, enumeration, Strategy(weight=weights.seq_mean)), LIMIT, 1.0).q_X
    data_X, repeated_X, matched = enumeration.log_p_X.exp(), repeated_pairs(enumeration.tokens_XT), 0.0
    for length in range(1, LIMIT + 1):
        here = [x for x in range(len(data_X)) if enumeration.lengths_X[x] == length]
        mean = sum(data_X[x] * repeated_X[x] for x in here) / sum(data_X[x] for x in here)
        matched += sum(reached_X[x] for x in here) * mean
    assert found.matched_repetition == pytest.approx(float(matched), abs=1e-12)
    even = learnt(model, Strategy(weight=weights.token_mean), LIMIT)
    assert even.matched_repetition == pytest.approx(even.data_repetition, abs=1e-12)


def test_the_optimum_reweighs_whole_texts_and_sequence_mean_learns_the_harmonic_mean_of_lengths():
    model, enumeration = world_of()
    reached_X = enumerate_texts(optimum(model, enumeration, Strategy(weight=weights.seq_mean)), LIMIT, 1.0).q_X
    data_X, lengths_X = enumeration.log_p_X.exp(), enumeration.lengths_X.double()
    assert torch.allclose(reached_X, data_X / lengths_X / (data_X / lengths_X).sum(), atol=1e-12)
    assert learnt(model, Strategy(weight=weights.seq_mean), LIMIT).length == pytest.approx(
        float(1 / (data_X / lengths_X).sum()), abs=1e-12
    )
