"""A term beside the credit: its formula by loops, its denominator, what is refused, and that the lab measures the sum."""

from __future__ import annotations

import math

import pytest
import torch

from configs.compose import compose_strategy
from credit.batch import Rollout
from credit.methods.auxiliary import GatedDistillation, LikelihoodOfSuccesses
from credit.strategy import Strategy
from credit.weight import constant
from lab import card
from lab.bench.jobs import Spec
from lab.measure.declarations import enumerated
from lab.measure.invariances import invariances
from lab.measure.scoring import Scorer

F64 = torch.float64


def test_likelihood_of_successes_is_its_formula():
    mask_BT = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    rewards_B = torch.tensor([1.0, 0.5, 0.4, 1.0], dtype=F64)
    rollout = Rollout(rewards_B, torch.zeros(4, dtype=torch.long), mask_BT, 3)
    strategy = compose_strategy(["credit=dr_grpo", "credit/auxiliary=nll", "credit.auxiliary.coefficient=0.3"])
    credit = strategy.score(rollout)
    logps_BT = -torch.rand(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    given_BT = logps_BT.tolist()
    logps_BT.requires_grad_()
    terms_BT = strategy.auxiliary_terms({"mask_BT": mask_BT, "policy_logps_BT": logps_BT, "rewards_B": rewards_B})
    loss = (credit.auxiliary_BT * terms_BT).sum()
    there = [(b, t) for b in range(4) for t in range(3) if mask_BT[b, t] and rewards_B[b] >= 0.5]
    assert len(there) == 5
    assert loss.item() == pytest.approx(-0.3 * sum(given_BT[b][t] for b, t in there) / 5)
    loss.backward()
    assert all(float(logps_BT.grad[b, t]) == pytest.approx(-0.3 / 5) for b, t in there)
    none = strategy.score(Rollout(torch.tensor([0.1, torch.nan]), torch.zeros(2).long(), mask_BT[:2], 3))
    assert not none.auxiliary_BT.any()


def test_gated_distillation_is_its_formula():
    """The gate has no gradient; rows without a teacher and masked tokens have no part in it, nor in the count."""
    mask_BT = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    generator = torch.Generator().manual_seed(1)
    logps_BT, teacher_BT = (-3 * torch.rand(4, 3, dtype=F64, generator=generator) for _ in range(2))
    teacher_BT[2] = torch.nan
    logps_BT.requires_grad_()
    auxiliary = GatedDistillation(0.2, 2.0)
    measure_BT = auxiliary.measure(teacher_BT, mask_BT).double()
    loss = (measure_BT * auxiliary.term(logps_BT, teacher_BT, mask_BT)).sum()
    loss.backward()
    expected, signs = 0.0, set()
    for b in range(4):
        for t in range(3):
            if b == 2 or not mask_BT[b, t]:
                assert logps_BT.grad[b, t] == 0
                continue
            gap = float(teacher_BT[b, t] - logps_BT[b, t])
            gate = 1 / (1 + math.exp(-2.0 * gap))
            signs.add(gap > 0)
            expected += 0.2 * gate * gap / 5
            assert math.isclose(float(logps_BT.grad[b, t]), -0.2 * gate / 5, rel_tol=1e-7)
    assert math.isclose(float(loss), expected, rel_tol=1e-7) and signs == {True, False}
    assert not auxiliary.measure(torch.full((2, 2), torch.nan), torch.ones(2, 2).bool()).any()


@pytest.mark.parametrize("wrong", ["coefficient", "sharpness"])
def test_gated_distillation_says_what_its_settings_may_be(wrong):
    with pytest.raises(ValueError, match=f"{wrong}=-1.0 must be at least 0"):
        GatedDistillation(**{wrong: -1.0})
    with pytest.raises(ValueError, match="credit/teacher=self"):
        compose_strategy(["credit=dr_grpo", "credit/auxiliary=sdar"])


def test_off_is_no_term_at_all():
    rollout = Rollout(torch.ones(2), torch.zeros(2).long(), torch.ones(2, 3).bool(), 3)
    assert Strategy(constant).score(rollout).auxiliary_BT is None


class Below:
    def measure(self, mask_BT):
        return -1.0 * mask_BT

    def term(self, policy_logps_BT):
        return policy_logps_BT


@pytest.mark.parametrize("wrong", [3, LikelihoodOfSuccesses])
def test_what_is_refused(wrong):
    if wrong == 3:
        with pytest.raises(ValueError, match=r"credit/auxiliary=nll"):
            Strategy(constant, auxiliary=wrong)
        return
    with pytest.raises(ValueError, match="coefficient"):
        wrong(coefficient=-1.0)
    rollout = Rollout(torch.ones(2), torch.zeros(2).long(), torch.ones(2, 3).bool(), 3)
    with pytest.raises(ValueError, match="negative somewhere"):
        Strategy(constant, auxiliary=Below()).score(rollout)


class OfEntropies(Below):
    def term(self, entropies_BT):
        return -entropies_BT


class Detached(Below):
    def measure(self, mask_BT):
        return 1.0 * mask_BT

    def term(self, policy_logps_BT, mask_BT):
        return (-policy_logps_BT).detach() * mask_BT


def test_a_term_without_a_gradient_is_refused_before_it_changes_nothing():
    with pytest.raises(ValueError, match=r"auxiliary OfEntropies\.term.*does not ask for policy_logps_BT"):
        Strategy(constant, auxiliary=OfEntropies())
    strategy, signals = Strategy(constant, auxiliary=Detached()), {"mask_BT": torch.ones(2, 3).bool()}
    logps_BT = -torch.ones(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=r"Detached\.term.*without a gradient.*detach"):
        strategy.auxiliary_terms(signals | {"policy_logps_BT": logps_BT})
    strategy.auxiliary_terms(signals | {"policy_logps_BT": logps_BT.detach()})  # evaluation
    strategy.auxiliary_terms(signals | {"policy_logps_BT": logps_BT * 0})  # nothing to learn here


class OverItsMicroBatch(LikelihoodOfSuccesses):
    def term(self, policy_logps_BT):
        return -policy_logps_BT / len(policy_logps_BT)


class MaskedToo(LikelihoodOfSuccesses):
    def measure(self, rewards_B, mask_BT):
        return torch.ones_like(mask_BT) * mask_BT.shape[1] / mask_BT.sum()


def test_the_invariances_look_at_the_auxiliary():
    sound = invariances(Strategy(constant, auxiliary=LikelihoodOfSuccesses()))
    assert sound["cut into micro-batches"] == sound["padding"] == "holds" and sound["reward shift"] == "breaks"
    assert sound["nothing to compare, nothing to learn"] == "breaks", "a group of equal successes teaches something now"
    assert invariances(Strategy(constant, auxiliary=OverItsMicroBatch()))["cut into micro-batches"] == "breaks"
    assert invariances(Strategy(constant, auxiliary=MaskedToo()))["padding"] == "breaks"


def over_its_micro_batch(entropies_BT):
    return entropies_BT / len(entropies_BT)


def test_the_invariances_cut_a_live_weight_too():
    assert invariances(Strategy(constant, live_weight=over_its_micro_batch))["cut into micro-batches"] == "breaks"


def test_a_card_shows_the_auxiliary_with_its_settings():
    spec = Spec("dr_grpo nll", ("credit=dr_grpo", "credit/auxiliary=nll", "credit.auxiliary.coefficient=0.3"))
    page = card.head("dr_grpo nll", spec, spec.strategy())
    row = "| auxiliary | `credit.methods.auxiliary.LikelihoodOfSuccesses`, coefficient=0.3, success=0.5 |"
    assert row in page and "the auxiliary, where" in page and page.count("2504.05118") == 2  # its words, its source
    assert "direction of the expected update: biased" in page
    assert "the auxiliary's term" not in page and "its term in the loss" in card.foot(spec.strategy())


def test_the_lab_measures_the_sum():
    """Its coefficient in closed form; tests/lab/measure/test_estimate.py differentiates it through the policy's own parameters."""
    learner = enumerated("tiny")
    texts_R, group_R = torch.arange(4), torch.zeros(4, dtype=torch.long)
    plain = Scorer(Strategy(constant), learner)
    both = Scorer(Strategy(constant, auxiliary=LikelihoodOfSuccesses(0.7, 0.5)), learner)
    added_RT = both.rows(texts_R, group_R)[1] - plain.rows(texts_R, group_R)[1]
    rollout = plain.rollout(texts_R, group_R)
    won_RT = rollout.mask_BT & (rollout.rewards_B >= 0.5)[:, None]
    assert won_RT.any() and not won_RT.all()
    torch.testing.assert_close(added_RT, 0.7 * won_RT.double() / won_RT.sum(), rtol=1e-12, atol=1e-15)
