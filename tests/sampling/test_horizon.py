"""The weights of Long Horizon Temperature Scaling and the optimum they lead to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sampling.exact import enumerate_texts, horizon_conditionals, total_variation
from sampling.horizon import BASELINES, PositionBaseline, horizon_log_weights
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.one_of(st.none(), st.integers(1, 9)), st.sampled_from(BASELINES))
def test_log_weights_equal_their_loop(seed, width, horizon, kind):
    generator = torch.Generator().manual_seed(seed)
    logps_BT = -torch.rand(3, width, generator=generator, dtype=torch.float64)
    lengths_B = torch.randint(0, width + 1, (3,), generator=generator)
    mask_BT = torch.arange(width) < lengths_B[:, None]
    logps_BT[~mask_BT] = torch.nan  # arbitrary where masked
    alpha_B = 0.2 + 3 * torch.rand(3, generator=generator, dtype=torch.float64)
    baseline_T = torch.randn(width, generator=generator, dtype=torch.float64)
    got_BT = horizon_log_weights(logps_BT, mask_BT, alpha_B, horizon, kind, baseline_T)
    for b in range(3):
        for t in range(width):
            ahead = range(t, min(t + (horizon or width), int(lengths_B[b])))
            total = sum(logps_BT[b, s].item() for s in ahead)
            centre = {"none": 0.0, "window": baseline_T[t].item(), "position": sum(baseline_T[s].item() for s in ahead)}
            wanted = (alpha_B[b].item() - 1) * (total - centre[kind]) if mask_BT[b, t] else 0.0
            assert got_BT[b, t].item() == pytest.approx(wanted, abs=1e-9)


def expected_loss_gradient(model, enumeration, log_q_CV, alpha, horizon, kind, baseline_T):
    """Gradient, in the logits of q, of - E_{x~p} sum_t W_t log q(x_t|x_<t), by enumeration."""
    logits_CV = log_q_CV.clone().requires_grad_()
    mask_XT = enumeration.tokens_XT != PAD
    alpha_X = torch.full((len(mask_XT),), alpha, dtype=torch.float64)
    log_w_XT = horizon_log_weights(enumeration.logps_XT, mask_XT, alpha_X, horizon, kind, baseline_T)
    loss = 0.0
    for t in range(mask_XT.shape[1]):
        there_X = mask_XT[:, t]
        nodes = prefix_index(enumeration.tokens_XT[there_X, :t], model.vocab_size)
        log_q = logits_CV[nodes].log_softmax(-1).gather(1, enumeration.tokens_XT[there_X, t, None])[:, 0]
        loss = loss - (enumeration.log_p_X[there_X].exp() * log_w_XT[there_X, t].exp() * log_q).sum()
    return torch.autograd.grad(loss, logits_CV)[0]


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("horizon", [1, 2, 3, 4])
def test_the_predicted_conditionals_are_the_optimum_at_every_horizon(horizon, kind):
    model, limit, alpha = TabularModel.random(3, 4, seed=2), 4, 2.5
    enumeration = enumerate_texts(model, limit, alpha)
    baseline_T = torch.tensor([-0.7, -1.1, -0.2, -0.9], dtype=torch.float64)
    moving_T = baseline_T if kind == "position" else None  # the only one that moves the optimum
    goal_CV = horizon_conditionals(model, limit, alpha, horizon, baseline_T=moving_T)
    at_goal = expected_loss_gradient(model, enumeration, goal_CV.log(), alpha, horizon, kind, baseline_T)
    elsewhere = expected_loss_gradient(model, enumeration, model.logits_PCV[0], alpha, horizon, kind, baseline_T)
    assert at_goal.abs().max() < 1e-12 and elsewhere.abs().max() > 1e-3


def test_the_published_baseline_rewards_longer_texts_unless_all_are_equally_long():
    model, limit, alpha = TabularModel.random(3, 4, seed=2), 4, 2.5
    enumeration = enumerate_texts(model, limit, alpha)
    baseline_T = torch.full((4,), -1.0, dtype=torch.float64)
    conditionals_CV = horizon_conditionals(model, limit, alpha, 4, baseline_T=baseline_T)
    reached_X = enumerate_texts(TabularModel(conditionals_CV.log()[None]), limit, 1.0).q_X
    bonus_X = (enumeration.target_X.log() - (alpha - 1) * -1.0 * enumeration.lengths_X).softmax(0)
    assert total_variation(reached_X, bonus_X) < 1e-10
    assert (reached_X * enumeration.lengths_X).sum() > (enumeration.target_X * enumeration.lengths_X).sum() + 0.1


def test_position_baseline_is_the_mean_by_position_of_all_texts_so_far():
    baseline = PositionBaseline(0)
    assert baseline.is_empty and torch.equal(baseline.value(3), torch.zeros(3))
    baseline.add(torch.tensor([-2.0, -3.0]), torch.tensor([2.0, 1.0]))
    baseline.add(torch.tensor([-4.0, -1.0, -5.0]), torch.tensor([2.0, 1.0, 1.0]))
    assert torch.equal(baseline.value(4), torch.tensor([-1.5, -2.0, -5.0, 0.0]))
