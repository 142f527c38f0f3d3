"""Every strategy, and every single choice on an axis, is what it declares to be: checked by enumeration."""

from __future__ import annotations

import pytest
import torch

from configs.compose import compose_strategy, config_choices
from credit import baseline, spread, weight
from credit.declare import declares
from credit.strategy import Strategy
from lab.measure.declarations import ROUNDING_BIAS, VISIBLE_BIAS, check_declaration, verdict
from support import cheating

SINGLE_CHOICES = [
    [f"credit={base}", f"credit/{axis}={choice}"]
    for base, axis in (("rloo", "baseline"), ("dr_grpo", "weight"), ("rloo", "ratio"))
    for choice in config_choices(f"credit/{axis}")
]


@pytest.mark.parametrize("name", config_choices("credit"))
def test_every_shipped_strategy_is_what_it_declares(name):
    finding = check_declaration(compose_strategy([f"credit={name}"]))
    assert finding.agrees, str(finding)


@pytest.mark.parametrize("overrides", SINGLE_CHOICES, ids=lambda overrides: overrides[1])
def test_every_choice_on_an_axis_is_what_it_declares(overrides):
    strategy = compose_strategy(overrides)
    assert strategy.declaration.unbiased is not None, "say whether it is unbiased"
    finding = check_declaration(strategy)
    assert finding.agrees, str(finding)


def test_a_baseline_that_looks_at_its_own_future_is_caught():
    finding = check_declaration(Strategy(weight.seq_sum, cheating.peeking, name="peeking"))
    assert finding.declared is True and finding.measured is False and not finding.agrees
    assert "WRONG DECLARATION: peeking declares to be unbiased" in str(finding)


def test_credit_that_looks_at_the_next_token_is_caught():
    finding = check_declaration(Strategy(weight.seq_sum, baseline.leave_one_out, cheating.hindsight))
    assert not finding.agrees and finding.worst > VISIBLE_BIAS


def test_a_strategy_that_claims_a_bias_it_has_not_is_caught():
    finding = check_declaration(Strategy(weight.seq_sum, cheating.modest, name="modest"))
    assert finding.measured is True and not finding.agrees


def test_a_critic_baseline_is_checked_with_an_arbitrary_critic():
    @declares(unbiased=True, weight_class="none")
    def leaning_on_the_critic(rewards_B, values_BT):
        """Unbiased only if the critic is exact: the sign of V decides the size of the step on the reward."""
        return rewards_B[:, None] * (values_BT > 0) - values_BT.square()

    def honest(rewards_B, values_BT):
        return rewards_B[:, None] - values_BT

    honest = declares(unbiased=True, weight_class="none")(honest)
    assert check_declaration(Strategy(weight.seq_sum, baseline.none, honest)).agrees
    assert not check_declaration(Strategy(weight.seq_sum, baseline.none, leaning_on_the_critic)).agrees


def test_rescaling_to_unit_mass_is_declared_and_measured_as_a_bias():
    strategy = Strategy(weight.constant, baseline.leave_one_out, spread.broadcast, unit_mass=True)
    finding = check_declaration(strategy)
    assert finding.declared is False and finding.agrees


def test_a_zero_update_is_neither_unbiased_nor_biased():
    """Not even in the coin's world, where zero is the truth."""

    @declares(unbiased=True, weight_class="none")
    def asleep(rewards_B):
        return rewards_B * 0

    finding = check_declaration(Strategy(weight.seq_sum, asleep, name="asleep"), worlds=("tiny", "levels", "coin"))
    assert finding.measured is None and not finding.agrees and finding.nothing == ("tiny", "levels")
    assert "asleep declares to be unbiased, and learned nothing: its mean update is zero in tiny, levels" in str(
        finding
    )


def test_a_world_in_which_nothing_was_learned_does_not_count_for_a_claim():
    @declares(unbiased=True, weight_class="none")
    def only_of_long_texts(rewards_B, group_B, max_length):
        return baseline.leave_one_out(rewards_B, group_B) * float(max_length > 2)

    finding = check_declaration(Strategy(weight.seq_sum, only_of_long_texts), worlds=("tiny", "poison"))
    assert finding.nothing == ("tiny",) and finding.measured is True


def test_no_claim_cannot_be_wrong():
    def silent(rewards_B):
        return rewards_B

    finding = check_declaration(Strategy(weight.seq_sum, silent), worlds=("tiny",))
    assert finding.declared is None and finding.agrees


@pytest.mark.parametrize(
    ("biases", "expected"),
    [([0.0, ROUNDING_BIAS], True), ([0.0, VISIBLE_BIAS], False), ([0.0, 1e-5], None), ([], None)],
)
def test_between_the_thresholds_nothing_passes(biases, expected):
    assert verdict(biases) is expected


def test_an_honest_bias_that_one_world_hides_is_found_in_another():
    honest = Strategy(weight.seq_mean, baseline.group_mean, name="per length")
    hidden = check_declaration(honest, worlds=("shares",))
    assert not hidden.agrees and hidden.measured is True
    assert check_declaration(honest, worlds=("shares", "tiny")).agrees


def test_declarations_are_checked_in_double_precision():
    assert torch.get_default_dtype() == torch.float32
    check_declaration(Strategy(weight.constant), worlds=("tiny",))
    assert torch.get_default_dtype() == torch.float32
