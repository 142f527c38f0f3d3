"""What `measure` says equals brute force over all ordered batches, and Monte Carlo within its own error."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from credit import baseline, ratio, weight
from credit.declare import declares
from credit.methods import live
from credit.methods.auxiliary import LikelihoodOfSuccesses
from credit.strategy import Strategy
from lab.exact.quantities import climb, exact
from lab.exact.world import END, World
from lab.measure.batches import itemise
from lab.measure.critics import CRITICS
from lab.measure.declarations import enumerated
from lab.measure.estimate import Budget, measure, rloo
from lab.measure.metrics import weighted_ranks
from lab.measure.scoring import Coupling, Scorer
from lab.measure.surrogates import SURROGATES

# Room for the control variates to be enumerated, none for the strategies themselves.
SAMPLE = Budget(groups=20, calls=0, sampled_groups=4096, sampled_calls=256)


@declares(unbiased=True, weight_class="none", row_constant=False)
def reward_minus_value(rewards_B, values_BT):
    return rewards_B[:, None] - values_BT


def by_token(advantages_B, token_ids_BT):
    return advantages_B[:, None] * (1 + token_ids_BT)


def midget() -> World:
    """Six texts in two prompts: ordered batches can be written out."""
    return World(
        name="midget",
        meaning="",
        prompts=("p", "q"),
        actions=("a", END),
        reward=lambda prompt, text: {"p": 1.0, "q": 0.3}[prompt] * (len(text) == 2) + 0.5 * (text[-1] == END),
        deciding=lambda prompt, text: {0, 1},
        max_length=2,
    )


MEMBERS = {
    "rloo": rloo(),
    "seq_norm": Strategy(weight.seq_mean, baseline.group_zscore),
    "uniform": Strategy(weight.token_mean, baseline.group_zscore),
    "whole batch": Strategy(weight.length_power, baseline.batch_zscore),
    "value": Strategy(weight.constant, baseline.none, reward_minus_value),
    "value, unit mass": Strategy(weight.constant, baseline.none, reward_minus_value, unit_mass=True),
    "token ids": Strategy(weight.seq_sum, baseline.leave_one_out, by_token),
}


@pytest.fixture(params=MEMBERS)
def strategy(request):
    return MEMBERS[request.param]


def brute_force(learner, strategy, size, sampler=None, surrogate="clip"):
    """Mean and covariance over all ordered batches, each gradient by differentiating the written-out loss."""
    source, tree = sampler or learner, learner.tree
    scorer = Scorer(strategy, learner, sampler, "fitted", surrogate)
    pools = [torch.nonzero(tree.prompt_N == p).flatten().tolist() for p in range(learner.prompts)] * size
    group_R = torch.arange(learner.prompts).repeat(size)
    mean, square = 0.0, 0.0
    for combination in itertools.product(*pools):
        texts_R = torch.tensor(combination)
        rollout = scorer.rollout(texts_R, group_R)
        credit = strategy.score(rollout)
        theta = learner.theta.clone().requires_grad_()
        logps_RT = learner._taken(learner._log_softmax(theta))[texts_R]
        sampler_logps_RT = source.logps_NT[texts_R]
        signals = scorer.live_signals(rollout, credit.advantages_B, texts_R)
        advantages_RT = strategy.live_advantages(signals) if strategy.is_live else credit.advantages_BT
        value_RT = logps_RT.detach() - sampler_logps_RT
        if strategy.ratio is ratio.sequence:
            value_RT = value_RT.sum(dim=1, keepdim=True) / rollout.lengths_B[:, None]
        rho_RT = torch.exp(value_RT + logps_RT - logps_RT.detach())
        weights_RT = credit.weights_BT
        if strategy.live_weight is not None:
            weights_RT = weights_RT * strategy.live_weights(signals)
        loss = -(weights_RT * SURROGATES[surrogate](rho_RT, advantages_RT)).sum()
        if strategy.auxiliary is not None:
            loss = (
                loss + (credit.auxiliary_BT * strategy.auxiliary_terms({**signals, "policy_logps_BT": logps_RT})).sum()
            )
        loss.backward()
        probability = float(source.probs_N[texts_R].prod())
        mean = mean - probability * theta.grad
        square = square + probability * torch.outer(theta.grad, theta.grad)
    return mean, square - torch.outer(mean, mean)


def close(one, other, atol=1e-12):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def test_mean_and_covariance_equal_brute_force_over_ordered_batches(strategy):
    learner = exact(midget())
    found = measure(learner, strategy, 2, critic="fitted", covariance=True)
    mean_D, covariance_DD = brute_force(learner, strategy, 2)
    assert found.exact
    close(found.mean_D, mean_D)
    close(found.covariance_DD, covariance_DD)
    assert math.isclose(found["nsr"], float(covariance_DD.trace() / mean_D.square().sum()), rel_tol=1e-9)


@pytest.mark.parametrize(
    "more",
    [
        {"auxiliary": LikelihoodOfSuccesses(0.7, 0.5)},
        {"live_weight": live.entropy, "unit_mass": True},
        {"live_weight": partial(live.taco, alpha=4.0)},
    ],
    ids=["auxiliary", "live weight", "taco"],
)
def test_what_the_live_pass_adds_is_in_mean_and_covariance_on_and_off_policy(more):
    learner = exact(midget())
    strategy = Strategy(weight.constant, baseline.group_mean, **more)
    for sampler in (None, climb(learner, updates=2, step=0.5)):
        found = measure(learner, strategy, 2, sampler=sampler, covariance=True)
        mean_D, covariance_DD = brute_force(learner, strategy, 2, sampler)
        close(found.mean_D, mean_D)
        close(found.covariance_DD, covariance_DD)
        plain = measure(learner, Strategy(weight.constant, baseline.group_mean), 2, sampler=sampler)
        assert (found.mean_D - plain.mean_D).norm() > 0.02 * plain.mean_D.norm()


@pytest.mark.parametrize("name", ["rloo", "seq_norm", "uniform"])
def test_texts_put_together_as_one_kind_still_count_with_their_own_scores(name):
    """Seven texts of one prompt, three kinds of them: equal in reward and length, different in tokens."""
    game = replace(midget(), prompts=("p",), actions=("a", "b", END))
    learner, strategy = exact(game), MEMBERS[name]
    assert len(itemise(learner, learner, False).prob_I) < len(learner.probs_N)
    found = measure(learner, strategy, 2, covariance=True)
    mean_D, covariance_DD = brute_force(learner, strategy, 2)
    close(found.mean_D, mean_D)
    close(found.covariance_DD, covariance_DD)
    assert math.isclose(found["nsr"], float(covariance_DD.trace() / mean_D.square().sum()), rel_tol=1e-9)


def test_weighted_ranks_count_the_weight_below_and_half_of_the_equals():
    ranks = weighted_ranks(torch.tensor([3.0, 1.0, 1.0 + 1e-13]), torch.tensor([0.5, 0.25, 0.25]).double())
    close(ranks, torch.tensor([0.75, 0.25, 0.25]).double())


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("member", [ratio.token, ratio.sequence])
def test_off_policy_mean_and_covariance_equal_brute_force(surrogate, member):
    sampler = exact(midget())
    learner = climb(sampler, updates=3, step=0.5)
    strategy = Strategy(weight.seq_mean, baseline.group_mean, ratio=member)
    found = measure(learner, strategy, 2, sampler=sampler, surrogate=surrogate, covariance=True)
    mean_D, covariance_DD = brute_force(learner, strategy, 2, sampler, surrogate)
    close(found.mean_D, mean_D)
    close(found.covariance_DD, covariance_DD)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_with_the_sampler_up_to_date_no_surrogate_or_ratio_matters(strategy, surrogate):
    learner = exact(midget())
    on_policy = measure(learner, strategy, 2)
    for member in (ratio.token, ratio.sequence):
        changed = Strategy(strategy.weight, strategy.baseline, strategy.spread, member, strategy.unit_mass)
        found = measure(learner, changed, 2, sampler=learner.at(learner.theta), surrogate=surrogate)
        close(found.mean_D, on_policy.mean_D)


@pytest.mark.parametrize("name", ["uniform", "whole batch", "token ids"])
def test_monte_carlo_agrees_with_enumeration_within_its_error(name):
    learner, strategy = enumerated("tiny"), MEMBERS[name]
    truth = measure(learner, strategy, 3, budget=Budget(calls=1000))
    drawn = measure(learner, strategy, 3, budget=SAMPLE)
    assert truth.exact and not drawn.exact
    for metric in ("scale", "length_push", "nsr", "cosine"):
        assert abs(truth[metric] - drawn[metric]) <= 4 * drawn.errors[metric] + 1e-9, metric
    assert abs(truth["relative_bias"] - drawn["relative_bias"]) <= 4 * drawn.errors["relative_bias"] + 1e-9
    for metric in ("spearman", "pearson", "key_share"):
        assert abs(truth[metric] - drawn[metric]) <= 0.05, metric


def test_samples_are_common_to_strategies_and_fixed_by_the_seed():
    learner = enumerated("tiny")
    few = Budget(groups=0, calls=0, sampled_calls=32)
    one, again = (measure(learner, MEMBERS["uniform"], 3, budget=few, seed=5) for _ in range(2))
    other = measure(learner, MEMBERS["uniform"], 3, budget=few, seed=6)
    assert torch.equal(one.mean_D, again.mean_D) and not torch.equal(one.mean_D, other.mean_D)


def test_coupling_is_found_out():
    learner = enumerated("tiny")

    def first_row_only(rewards_B):
        return rewards_B * (torch.arange(len(rewards_B)) == 0)

    def plain(mask_BT):
        return mask_BT * 1.0

    expected = {
        "batch": [MEMBERS["uniform"], MEMBERS["whole batch"], Strategy(weight.constant, first_row_only)],
        "groups": [MEMBERS["rloo"], MEMBERS["seq_norm"]],
        "rows": [MEMBERS["value"], Strategy(plain, baseline.none)],
    }
    for level, strategies in expected.items():
        for strategy in strategies:
            assert Scorer(strategy, learner).coupling(2, 4).level == level
    assert Scorer(Strategy(plain, baseline.none), learner).coupling(2, 4) == Coupling("rows", per_batch=False)
    assert Scorer(MEMBERS["rloo"], learner).coupling(2, 4) == Coupling("groups", per_batch=True)


class Memory:
    """A baseline that remembers the batches before."""

    def __init__(self):
        self.seen = 0.0

    def __call__(self, rewards_B):
        self.seen += float(rewards_B.sum())
        return rewards_B - self.seen


def test_a_strategy_with_state_is_measured_with_the_state_it_was_given():
    found = measure(enumerated("tiny"), Strategy(weight.seq_sum, Memory()), 2, budget=Budget(calls=1000))
    again = measure(enumerated("tiny"), Strategy(weight.seq_sum, Memory()), 2, budget=Budget(calls=1000))
    assert found.exact and torch.equal(found.mean_D, again.mean_D)


def test_a_perfect_critic_removes_more_noise_than_any_other():
    noise = {critic: measure(enumerated("two_turn"), MEMBERS["value"], 4, critic=critic)["nsr"] for critic in CRITICS}
    assert noise["perfect"] == min(noise.values()) and noise["random"] == max(noise.values())
    assert noise["perfect"] < noise["fitted"] < noise["zero"]
    assert noise["perfect"] < measure(enumerated("two_turn"), rloo(), 4)["nsr"]


def test_a_fitted_critic_knows_nothing_but_prompt_position_and_last_token():
    learner = enumerated("poison")
    tree, values_NT = learner.tree, CRITICS["fitted"](learner)
    last_NT = torch.cat([torch.full((len(values_NT), 1), -1), tree.token_ids_NT[:, :-1]], dim=1)
    position_NT = torch.arange(values_NT.shape[1]).expand_as(last_NT)
    look = torch.stack([tree.prompt_N[:, None].expand_as(last_NT), position_NT, last_NT], dim=-1)[tree.mask_NT]
    for key in torch.unique(look, dim=0):
        same = values_NT[tree.mask_NT][(look == key).all(dim=1)]
        assert same.max() - same.min() < 1e-9


def test_a_signal_the_lab_does_not_have_is_named(monkeypatch):
    from credit.signals import SIGNALS, Signal

    monkeypatch.setitem(SIGNALS, "dreams_B", Signal("(B,)", "scoring", "nothing real"))

    def dreaming(dreams_B):
        return dreams_B

    with pytest.raises(ValueError, match="dreams_B"):
        measure(enumerated("tiny"), Strategy(weight.seq_sum, dreaming), 2)


@pytest.mark.parametrize("option", [{"critic": "prefect"}, {"surrogate": "clamp"}])
def test_unknown_options_are_answered_with_the_list(option):
    with pytest.raises(ValueError, match="is not one of"):
        measure(enumerated("tiny"), rloo(), 2, **option)
