"""The KL penalty in the reward: token by token for members that read it so, by row for all others."""

from __future__ import annotations

import pytest
import torch

from credit import Rollout, Strategy, baseline, weight
from credit.critic import HeadSpec
from credit.spread import Value, spans, value_prompt

NAN = float("nan")
MASK_BT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 0]]).bool()
KL_BT = torch.tensor([[-0.1, 0.2, -0.3], [0.4, 99.0, -0.5], [7.0, 7.0, 7.0], [0.6, -0.7, 9.0]], dtype=torch.float64)
REWARDS_B = torch.tensor([1.0, 0.0, 0.5, NAN], dtype=torch.float64)


def rollout(**changes) -> Rollout:
    values = dict(
        rewards_B=REWARDS_B, group_B=torch.tensor([0, 0, 0, 0]), mask_BT=MASK_BT, max_length=3, kl_rewards_BT=KL_BT
    )
    return Rollout(**(values | changes))


def test_where_no_member_takes_it_by_token_the_rows_sum_joins_its_reward():
    """RLOO with KL in the reward, by loops: tool text and masked rows pay nothing, an unscorable row stays one."""
    strategy = Strategy(weight.seq_sum, baseline.leave_one_out, kl_in_reward=True)
    rewards = []
    for b in range(4):
        paid = sum(KL_BT[b, t].item() for t in range(3) if MASK_BT[b, t])
        rewards.append(REWARDS_B[b].item() + paid)
    credit = strategy.score(rollout())
    for b in range(3):
        others = [rewards[j] for j in range(3) if j != b]
        assert credit.advantages_B[b].item() == pytest.approx(rewards[b] - sum(others) / 2)
        for t in range(3):
            assert credit.advantages_BT[b, t] == (credit.advantages_B[b] if MASK_BT[b, t] else 0)
    assert credit.advantages_B[3] == 0 and strategy.kl_by_row and strategy.needs_kl_at_scoring
    assert rollout().rewards_B[0] == 1.0  # the batch itself keeps the reward as it was given


def test_a_spread_over_token_rewards_at_scoring_time_gets_the_penalty_by_token():
    """Return-to-go of reward and penalty, whitened by the batch's largest: REINFORCE++ without a critic."""

    def to_go(token_rewards_BT, rewards_B):
        return token_rewards_BT.flip(1).cumsum(1).flip(1)

    strategy = Strategy(weight.constant, baseline.none, to_go, kl_in_reward=True)
    credit = strategy.score(rollout())
    for b in range(2):
        for t in range(3):
            rest = sum(KL_BT[b, s].item() for s in range(t, 3) if MASK_BT[b, s])
            expected = REWARDS_B[b].item() + rest if MASK_BT[b, t] else 0.0
            assert credit.advantages_BT[b, t].item() == pytest.approx(expected)
    assert not strategy.kl_by_row and strategy.needs_kl_at_scoring


def test_a_member_that_reads_the_penalty_itself_gets_it_once():
    def minus_penalty(rewards_B, kl_rewards_BT, mask_BT):
        return rewards_B.nan_to_num() + 2 * (kl_rewards_BT * mask_BT).sum(1)

    strategy = Strategy(weight.constant, minus_penalty, kl_in_reward=True)
    assert strategy.score(rollout()).advantages_B[0].item() == pytest.approx(1.0 + 2 * -0.2)


def test_a_spread_that_waits_for_the_loss_needs_no_penalty_before_it():
    live = Strategy(weight.constant, baseline.none, Value(), critic=HeadSpec(), kl_in_reward=True)
    row = Strategy(weight.constant, baseline.none, value_prompt, critic=HeadSpec(at="prompt"), kl_in_reward=True)
    assert not live.needs_kl_at_scoring and row.needs_kl_at_scoring


def test_a_rows_penalty_is_in_what_a_critic_is_fitted_to_once():
    strategy = Strategy(weight.constant, baseline.none, value_prompt, critic=HeadSpec(at="prompt"), kl_in_reward=True)
    batch = rollout()
    outcome_BT = strategy.outcome(batch.signals() | {"advantages_B": strategy.advantages(batch)})
    assert outcome_BT[0].tolist() == pytest.approx([0.0, 0.0, 0.8]) and outcome_BT[1].tolist() == pytest.approx(
        [0.0, 0.0, -0.1]
    )


def test_a_penalty_that_no_member_would_read_is_refused():
    with pytest.raises(ValueError, match=r"spread spans reads neither .*credit/spread=broadcast"):
        Strategy(weight.constant, baseline.none, spans, kl_in_reward=True, name="spans")


def test_reading_the_penalty_without_collecting_it_is_refused():
    def mine(advantages_B, kl_rewards_BT):
        return advantages_B[:, None] + kl_rewards_BT

    with pytest.raises(ValueError, match=r"credit.kl_in_reward=true and trainer.beta"):
        Strategy(weight.constant, spread=mine)


def test_a_broken_penalty_does_not_pass_for_an_unscorable_row():
    broken_BT = KL_BT.clone()
    broken_BT[0, 0] = NAN
    with pytest.raises(ValueError, match="kl_rewards_BT of credit strategy 'mine' holds NaN"):
        Strategy(weight.seq_sum, kl_in_reward=True, name="mine").score(rollout(kl_rewards_BT=broken_BT))


@pytest.mark.parametrize("signal", ["advantages_B", "token_rewards_BT"])
def test_a_baseline_that_asks_for_what_it_makes_is_refused(signal):
    namespace = {}
    exec(f"def mine({signal}): return {signal}", namespace)
    with pytest.raises(ValueError, match=f"baseline mine .*asks for {signal}"):
        Strategy(weight.constant, namespace["mine"])
