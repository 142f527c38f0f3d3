"""Returns and per-token baselines: the vectorised recurrence equals its loop, and the identities it rests on hold."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from credit import Strategy
from credit.baseline import none
from credit.batch import Rollout
from credit.critic import HeadSpec
from credit.returns import adaptive_lambda, discounted_suffix_sums, gae, gae_loop, last_token_rewards
from credit.spread import Value, ValueWhitened, value_prompt
from credit.weight import constant
from support.exact.rollouts import rollouts

factors = st.sampled_from([0.0, 0.3, 0.95, 1.0]) | st.floats(0, 1)


def signals_of(rollout: Rollout, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dense token rewards and values with NaN at masked positions: whatever stands there must not matter."""
    generator = torch.Generator().manual_seed(seed)
    shape = rollout.mask_BT.shape
    rewards_BT, values_BT = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return (
        rewards_BT.masked_fill(~rollout.mask_BT, torch.nan),
        values_BT.masked_fill(~rollout.mask_BT, torch.nan),
        (rollout.mask_BT),
    )


@given(rollouts(), factors, factors, st.integers(0, 99))
def test_vectorised_gae_equals_its_loop(rollout, gamma, lambda_, seed):
    arguments = signals_of(rollout, seed)
    fast, slow = gae(*arguments, gamma, lambda_), gae_loop(*arguments, gamma, lambda_)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-12) and (fast[~rollout.mask_BT] == 0).all()


@given(rollouts(), st.integers(0, 99))
def test_each_row_may_have_a_lambda_of_its_own(rollout, seed):
    arguments = signals_of(rollout, seed)
    lambda_B = torch.rand(len(rollout.rewards_B), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    together = gae(*arguments, 0.9, lambda_B)
    assert torch.allclose(together, gae_loop(*arguments, 0.9, lambda_B), rtol=0, atol=1e-12)
    for b, lambda_ in enumerate(lambda_B.tolist()):
        alone = gae(*(each[b : b + 1] for each in arguments), 0.9, lambda_)
        assert torch.allclose(together[b : b + 1], alone, rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(rollouts(), factors, st.integers(1, 40), st.integers(0, 99))
def test_rows_taken_a_few_at_a_time_get_what_they_get_together(rollout, lambda_, cached, seed):
    arguments = signals_of(rollout, seed)
    lambda_B = torch.rand(len(rollout.rewards_B), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for each in (lambda_, lambda_B):
        with patch("credit.returns._CACHED", cached):
            assert torch.allclose(gae(*arguments, 0.9, each), gae_loop(*arguments, 0.9, each), rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(st.integers(1, 150), factors, st.integers(0, 99))
def test_blocks_of_discounted_sums_join_without_a_seam(width, factor, seed):
    values_BT = torch.randn(3, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sums_BT, running_B = torch.zeros_like(values_BT), torch.zeros(3, dtype=torch.float64)
    for t in reversed(range(width)):
        running_B = values_BT[:, t] + factor * running_B
        sums_BT[:, t] = running_B
    assert torch.allclose(discounted_suffix_sums(values_BT, factor), sums_BT, rtol=0, atol=1e-11)


@given(rollouts(unscorable=False))
def test_at_lambda_one_credit_is_the_reward_minus_the_value_before_the_token(rollout):
    _, values_BT, mask_BT = signals_of(rollout)
    credit_BT = gae(last_token_rewards(rollout.rewards_B, mask_BT), values_BT, mask_BT)
    expected_BT = (rollout.rewards_B[:, None] - values_BT).masked_fill(~mask_BT, 0.0)
    assert torch.equal(credit_BT, expected_BT)


@given(rollouts(empty=False), st.integers(0, 99))
def test_at_lambda_zero_credits_of_a_row_add_up_to_the_reward_minus_the_first_value(rollout, seed):
    rewards_BT, values_BT, mask_BT = signals_of(rollout, seed)
    credit_BT = gae(rewards_BT, values_BT, mask_BT, 1.0, 0.0)
    for b in range(len(mask_BT)):
        if mask_BT[b].any():
            total = rewards_BT[b][mask_BT[b]].sum() - values_BT[b][mask_BT[b]][0]
            assert credit_BT[b].sum().item() == pytest.approx(total.item(), abs=1e-12)


@given(rollouts(unscorable=False))
def test_the_outcome_stands_at_the_last_learning_token(rollout):
    rewards_BT = last_token_rewards(rollout.rewards_B, rollout.mask_BT)
    assert torch.equal(rewards_BT.sum(1), rollout.rewards_B * rollout.mask_BT.any(1))
    after_BT = rollout.mask_BT.flip(1).cumsum(1).flip(1)
    assert (rewards_BT[after_BT != 1] == 0).all()


def test_adaptive_lambda_looks_ahead_a_share_of_the_length():
    # 1 - 1/(0.05 L): 0 up to L = 20, 0.5 at 40, 0.95 at 400
    found = adaptive_lambda(torch.tensor([0, 1, 20, 40, 400]), 0.05)
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 0.0, 0.5, 0.95]))


@given(rollouts())
def test_whitened_credit_has_mean_zero_and_deviation_one_over_all_learning_tokens(rollout):
    rewards_BT, values_BT, mask_BT = (each.nan_to_num() for each in signals_of(rollout))
    spread = ValueWhitened(lambda_=0.9)
    credit_BT = spread(rewards_BT, values_BT, mask_BT.bool(), rollout.lengths_B, rollout.rewards_B)
    learning = credit_BT[mask_BT.bool() & ~rollout.rewards_B.isnan()[:, None]]
    if len(learning) > 1:
        assert abs(learning.mean()) < 1e-9 and learning.std().item() == pytest.approx(1.0, abs=1e-6)
    equal_BT = spread(
        torch.zeros_like(rewards_BT), torch.zeros_like(values_BT), mask_BT.bool(), rollout.lengths_B, rollout.rewards_B
    )
    assert (equal_BT == 0).all()


def test_a_prompt_baseline_is_the_value_before_the_first_token():
    values_BT = torch.tensor([[0.25, 0.5], [0.75, 9.0]])
    credit_BT = value_prompt(torch.tensor([1.0, 0.5]), values_BT, torch.ones(2, 2, dtype=torch.bool))
    assert torch.equal(credit_BT, torch.tensor([[0.75, 0.75], [-0.25, -0.25]]))


def test_one_value_per_prompt_is_read_where_it_is_fitted_before_the_first_learning_token():
    mask_BT = torch.tensor([[False, True, True], [False, False, False]])
    credit_BT = value_prompt(torch.tensor([1.0, 0.0]), torch.tensor([[9.0, 0.25, 0.5]] * 2), mask_BT)
    assert credit_BT[0].tolist() == [0.75] * 3


@pytest.mark.parametrize("options", [{"lambda_": 1.1}, {"gamma": -0.1}, {"adaptive_alpha": 0.0}])
def test_impossible_discounts_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Value(**options)


def test_only_lambda_and_gamma_of_one_declare_to_be_unbiased():
    assert Value().declaration.unbiased is True
    assert not any(
        Value(**o).declaration.unbiased for o in ({"lambda_": 0.95}, {"gamma": 0.9}, {"adaptive_alpha": 1.0})
    )


def test_a_warm_up_without_a_critic_is_refused():
    with pytest.raises(ValueError, match="credit/critic=head"):
        Strategy(constant, none, critic_warmup_steps=3)


def test_the_penalty_joins_the_reward_of_its_token():
    strategy = Strategy(constant, none, Value(), critic=HeadSpec(), kl_in_reward=True)
    mask_BT = torch.tensor([[True, True, False]])
    signals = {
        "advantages_B": torch.tensor([1.0]),
        "rewards_B": torch.tensor([1.0]),
        "mask_BT": mask_BT,
        "lengths_B": mask_BT.sum(1),
        "values_BT": torch.zeros(1, 3),
        "kl_rewards_BT": torch.tensor([[-0.25, -0.5, 7.0]]),
    }
    assert torch.equal(strategy.outcome(signals), torch.tensor([[-0.25, 0.5, 0.0]]))
    # the return to go: -0.25 - 0.5 + 1, then -0.5 + 1
    assert torch.equal(strategy.live_advantages(signals), torch.tensor([[0.25, 0.5, 0.0]]))
