"""The KL penalty in the reward through the trainer, for members at scoring time: every cut of the batch gives the same update."""

from __future__ import annotations

import pytest
import torch

from credit import Strategy, baseline, weight
from credit.spread import value_prompt
from support.critics import HEAD, fit
from support.exact.fixed import distance
from support.tiny import loaded


def _to_go(token_rewards_BT, mask_BT):
    """REINFORCE++: reward and penalties from each token on, less the batch's mean; at scoring time, without a critic."""
    returns_BT = token_rewards_BT.flip(1).cumsum(1).flip(1)
    return returns_BT - (returns_BT * mask_BT).sum() / mask_BT.sum()


def _paid(rewards_B, kl_rewards_BT, mask_BT):
    return rewards_B.nan_to_num() + 2 * (kl_rewards_BT * mask_BT).sum(1)


STRATEGIES = {
    "by row": lambda: Strategy(weight.seq_sum, baseline.leave_one_out, kl_in_reward=True),
    "by token at scoring time": lambda: Strategy(weight.constant, baseline.none, _to_go, kl_in_reward=True),
    "by a baseline of its own": lambda: Strategy(weight.constant, _paid, kl_in_reward=True),
    "by row with a critic of the prompt": lambda: Strategy(
        weight.constant, baseline.none, value_prompt, critic=HEAD, kl_in_reward=True
    ),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_penalty_reaches_scoring_however_the_batch_is_cut(name, tmp_path):
    """Two steps, so that the policy has left its reference; without gradient accumulation TRL makes no pass of its own."""
    penalties = {}

    def observe(trainer, visit):
        penalties.setdefault(name, []).append(visit.signals["kl_rewards_BT"])

    models = {}
    for cut in (1, 4):
        options = dict(beta=0.5, max_steps=2, seed=3, learning_rate=0.05, optim="sgd", observe=observe)
        models[cut] = fit(STRATEGIES[name](), cut, model=loaded(tmp_path), **options).model
    one, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models.values())
    start = torch.cat([p.detach().flatten() for p in loaded(tmp_path).parameters()])
    assert penalties[name][1].abs().sum() > 0
    assert distance(one - start, other - start) < 1e-4
