"""Live weights: twins by loops, the mass that is counted with the policy that sampled, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from credit.batch import Rollout
from credit.checks import Doubts
from credit.diagnostics import diagnose
from credit.methods.live import entropy, taco
from credit.strategy import Strategy
from credit.weight import constant, token_mean

F64 = torch.float64


def batch():
    """A rollout with the statistics of the policy that sampled, and the live signals of a policy that has moved."""
    generator = torch.Generator().manual_seed(0)
    mask_BT = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()

    def drawn(scale):
        return torch.rand(4, 4, generator=generator, dtype=F64) * scale

    rollout = Rollout(torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=F64), torch.tensor([0, 0, 1, 1]), mask_BT, 4)
    rollout = rollout.with_provided({"scoring_entropies_BT": drawn(2.0), "scoring_logps_BT": -drawn(9.0)})
    live = {name: value for name, value in rollout.signals().items() if name != "group_B"}
    return rollout, live | {"entropies_BT": drawn(2.0), "policy_logps_BT": -drawn(9.0)}


def test_taco_is_its_formula():
    _, live = batch()
    advantages_B = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=F64)
    found_BT = taco(live["policy_logps_BT"], live["entropies_BT"], advantages_B, alpha=0.1, lambda_=0.7)
    lowered = 0
    for b in range(4):
        for t in range(4):
            r = -float(live["policy_logps_BT"][b, t]) - float(live["entropies_BT"][b, t]) + math.log(0.1)
            suspect = r > 0 and advantages_B[b] > 0
            lowered += suspect
            assert math.isclose(found_BT[b, t], 1 - 0.7 * (1 - math.exp(-r)) if suspect else 1.0, rel_tol=1e-12)
    assert 0 < lowered < 8


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"lambda_": 1.1}])
def test_taco_says_what_its_settings_may_be(wrong):
    _, live = batch()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        taco(live["policy_logps_BT"], live["entropies_BT"], torch.ones(4), **wrong)


def test_unit_mass_is_that_of_the_policy_that_sampled():
    rollout, live = batch()
    strategy = Strategy(token_mean, live_weight=entropy, unit_mass=True)
    assert "scoring_entropies_BT" in strategy.needs
    credit = strategy.score(rollout)
    total = float(rollout.provided["scoring_entropies_BT"][rollout.mask_BT].sum())
    product_BT = credit.weights_BT * strategy.live_weights(live)
    expected_BT = live["entropies_BT"].masked_fill(~rollout.mask_BT, 0.0) / total
    torch.testing.assert_close(product_BT, expected_BT, rtol=1e-12, atol=0)
    assert math.isclose(diagnose(rollout, credit)["mass"], 1.0) and not math.isclose(float(product_BT.sum()), 1.0)


def test_diagnostics_hold_the_live_weight_or_say_that_they_cannot():
    rollout, _ = batch()
    strategy = Strategy(constant, live_weight=entropy)
    assert "scoring_entropies_BT" not in strategy.needs  # no forward pass for the sake of a number
    mass_BT = rollout.provided["scoring_entropies_BT"].masked_fill(~rollout.mask_BT, 0.0) / 16
    found = diagnose(rollout, strategy.score(rollout))
    assert math.isclose(found["mass"], float(mass_BT.sum()))
    unknown = diagnose(replace(rollout, provided={}), strategy.score(replace(rollout, provided={})))
    assert math.isnan(unknown["mass"]) and math.isnan(unknown["effective_tokens"]) and unknown["zero_groups"] == 0.0


def test_what_is_declared_counts_the_live_weight():
    plain, live = Strategy(constant), Strategy(constant, live_weight=partial(taco, alpha=0.5))
    assert plain.declaration.unbiased and plain.declaration.row_constant
    assert live.declaration.unbiased is False and live.declaration.weight_class == "action"
    assert live.declaration.row_constant is False and "2607.07976" in live.declaration.source


def below(entropies_BT):
    return entropies_BT - 1.0


def test_a_negative_live_weight_is_refused_by_name_where_it_counts():
    rollout, live = batch()
    strategy, doubts = Strategy(constant, live_weight=below, name="mine"), Doubts()
    words = "live_weight below of credit strategy 'mine' is negative"
    with pytest.raises(ValueError, match=words):
        strategy.live_weights(live)
    strategy.live_weights(live, doubts)  # noted, for all ranks to hear of at once
    flags = doubts.flags()
    with pytest.raises(ValueError, match=words):
        doubts.settle(flags)
    doubts.settle(doubts.flags())  # and forgotten
    fine = live | {"entropies_BT": torch.where(rollout.mask_BT, 2.0, 0.0).double()}
    strategy.live_weights(fine)  # below 0 at padding only
    # Another rank found something, this one did not.
    strategy.live_weights(fine, doubts)
    with pytest.raises(ValueError, match=words):
        doubts.settle(flags)


def test_a_weight_that_asks_for_the_live_pass_is_told_where_it_belongs():
    with pytest.raises(ValueError, match=r"scoring_entropies_BT.*live_weight"):
        Strategy(entropy)
    with pytest.raises(ValueError, match="group_B"):
        Strategy(constant, live_weight=lambda group_B, entropies_BT: entropies_BT)
