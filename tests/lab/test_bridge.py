"""Alignment with the model's own likelihood, by enumeration: what is best, where each way rests, and what TRL's KL term is."""

import pytest
import torch

from configs.compose import compose_strategy
from lab.bridge import Way, Worlds, by_last_token, expected_update, rest, total_variation_S
from sampling.exact import enumerate_texts
from sampling.tabular import TabularModel

ALPHA = 2.5
BETA = 1 / (ALPHA - 1)
REWARD, LOSS = "credit.kl_in_reward=true", "credit.kl_in_reward=false"
SEQ_MEAN = ["credit=dr_grpo", "credit/weight=seq_mean"]


def way(*overrides: str) -> Way:
    return Way(compose_strategy(list(overrides)), BETA)


@pytest.fixture(scope="module")
def worlds() -> Worlds:
    return Worlds(TabularModel.random(3, 4, prompts=3, seed=5), 4)


def law(worlds: Worlds, theta_SKV) -> torch.Tensor:
    return worlds.logps(theta_SKV).sum(-1).exp()


def test_the_texts_are_those_of_the_enumeration_and_the_target_is_sequence_temperature(worlds):
    assert way(REWARD).alpha == pytest.approx(ALPHA)
    for s in range(3):
        one = enumerate_texts(worlds.model, 4, ALPHA, prompt=s)
        assert torch.equal(one.tokens_XT, worlds.tokens_XT)
        assert torch.allclose(one.log_p_X, worlds.logp_SX[s]) and torch.allclose(
            one.target_X, worlds.target_SX(ALPHA)[s]
        )


def test_nothing_is_better_than_sequence_temperature(worlds):
    """J(q) = beta (log Z - KL(q || p^alpha/Z)), for any q."""
    target_SX = worlds.target_SX(ALPHA)
    log_z_S = (ALPHA * worlds.logp_SX).logsumexp(-1)
    best_SCV = worlds.conditionals(target_SX)
    assert torch.allclose(law(worlds, best_SCV), target_SX)
    assert torch.allclose(worlds.objective(best_SCV, BETA), BETA * log_z_S)
    draws = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0):
        other_SCV = best_SCV + scale * torch.randn(best_SCV.shape, generator=draws, dtype=torch.float64)
        q_SX = law(worlds, other_SCV)
        divergence_S = (q_SX * (q_SX / target_SX).log()).sum(-1)
        assert torch.allclose(worlds.objective(other_SCV, BETA), BETA * (log_z_S - divergence_S))
        assert (divergence_S > 1e-6).all()


def test_an_unbiased_strategy_with_the_penalty_in_the_reward_climbs_the_objective(worlds):
    theta = worlds.start_SKV.clone().requires_grad_()
    worlds.objective(theta, BETA).sum().backward()
    constant = expected_update(worlds, worlds.start_SKV, way("credit=dr_grpo", REWARD)) * worlds.limit
    assert torch.allclose(constant, theta.grad) and theta.grad.norm() > 0.1
    assert torch.allclose(expected_update(worlds, worlds.start_SKV, way("credit=rloo", REWARD)), theta.grad)
    biased = expected_update(worlds, worlds.start_SKV, way(*SEQ_MEAN, REWARD))
    assert torch.nn.functional.cosine_similarity(biased.flatten(), theta.grad.flatten(), dim=0) < 0.999


@pytest.mark.parametrize("chosen", [["credit=dr_grpo"], SEQ_MEAN, ["credit=seq_norm"]], ids=lambda names: names[-1])
def test_at_the_target_no_strategy_has_anything_left_to_say_if_the_penalty_is_in_the_reward(worlds, chosen):
    best_SCV = worlds.conditionals(worlds.target_SX(ALPHA))
    assert expected_update(worlds, best_SCV, way(*chosen, REWARD)).abs().max() < 1e-10
    assert expected_update(worlds, best_SCV, way(*chosen, LOSS)).abs().max() > 1e-3


def test_every_way_rests_there_however_it_weighs_lengths(worlds):
    for chosen in (["credit=dr_grpo"], SEQ_MEAN, ["credit=seq_norm"]):
        q_SX = law(worlds, rest(worlds, way(*chosen, REWARD), tolerance=1e-8))
        assert (total_variation_S(q_SX, worlds.target_SX(ALPHA)) < 1e-6).all()


def test_with_trls_term_in_the_loss_each_way_rests_elsewhere(worlds):
    """Where unbiased and length-normalised credit rest differs too: the bias is not multiplied by nothing."""
    rests = [
        law(worlds, rest(worlds, way(*chosen, LOSS), rate=0.1, tolerance=1e-6))
        for chosen in (["credit=dr_grpo"], SEQ_MEAN)
    ]
    assert all((total_variation_S(q_SX, worlds.target_SX(ALPHA)) > 0.005).all() for q_SX in rests)
    assert (total_variation_S(*rests) > 0.001).all()


def test_a_policy_that_cannot_be_the_target_is_bent_by_length_normalised_credit():
    """One softmax per last token: unbiased credit rests at the best such policy, sequence means rest at a worse one."""
    alpha, state_C = 1.5, by_last_token(3, 6)
    table = 1.5 * torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    few, beta = Worlds(TabularModel(table[:, state_C]), 6, state_C), 1 / (alpha - 1)
    best, bent = (
        few.objective(rest(few, Way(compose_strategy([*chosen, REWARD]), beta), tolerance=1e-8), beta)
        for chosen in (["credit=dr_grpo"], SEQ_MEAN)
    )
    assert (best - bent > 1e-7).all() and (best - bent).max() > 1e-3
    assert (beta * (alpha * few.logp_SX).logsumexp(-1) - best > 1e-4).all()


def test_the_gradient_of_trls_term_is_that_of_the_other_divergence(worlds):
    """E_q[grad k3] = grad KL(p || q) at each state, weighted by how often q is there; q's own part in that is not followed."""
    theta = (worlds.start_SKV + torch.linspace(-1, 1, 3)).detach()
    update = expected_update(worlds, theta, way("credit=rloo", LOSS)) - expected_update(
        worlds, theta, Way(compose_strategy(["credit=rloo", LOSS]), 0.0)
    )
    visits_SC = worlds.counts(law(worlds, theta)[..., None] * worlds.mask_XT, theta.shape[1]).sum(-1)
    free = theta.clone().requires_grad_()
    p_SCV = worlds.start_SKV.softmax(-1)
    (-(visits_SC[..., None] * p_SCV * free.log_softmax(-1)).sum()).backward()
    assert torch.allclose(update, -BETA * free.grad) and update.norm() > 0.1


def test_a_baseline_that_is_not_written_is_refused(worlds):
    with pytest.raises(ValueError, match="batch_zscore"):
        expected_update(worlds, worlds.start_SKV, way("credit=dr_grpo", "credit/baseline=batch_zscore", REWARD))
