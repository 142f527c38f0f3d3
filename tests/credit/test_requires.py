"""What a strategy asks of the trainer's settings, and what is said when they are others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credit import Strategy
from credit.requires import unmet
from credit.weight import constant
from trainers.seam.refusals import refuse_inexact

SETTINGS = {"beta": 0.0, "mask_truncated_completions": False, "loss_type": "dr_grpo", "epsilon_high": None, "top_k": 0}


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ({"beta": "> 0"}, "requires beta > 0, and it is 0.0. Set trainer.beta=..."),
        ({"mask_truncated_completions": True}, "= true, and it is false. Set trainer.mask_truncated_completions=true"),
        ({"loss_type": ["dapo", "cispo"]}, "dapo or cispo, and it is dr_grpo. Set trainer.loss_type=dapo"),
        ({"epsilon_high": "given"}, "to be given, and it is null. Set trainer.epsilon_high=..."),
        ({"epsilon_high": ">= 0.2"}, ">= 0.2, and it is null"),
        ({"beta": 0.1}, "= 0.1, and it is 0.0. Set trainer.beta=0.1"),
        ({"top_k": False}, "= false, and it is 0"),
    ],
)
def test_what_is_not_so_is_said_with_the_setting_to_change(requires, said):
    (sentence,) = unmet(requires, SETTINGS)
    assert said in sentence


def test_what_is_so_passes():
    met = {"beta": "< 1", "mask_truncated_completions": False, "loss_type": ["dr_grpo", "dapo"], "top_k": "<= 0"}
    assert not list(unmet({**met, "epsilon_high": None}, SETTINGS))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_comparisons_mean_what_they_say(bound, value):
    for sign, holds in ((">", value > bound), (">=", value >= bound), ("<", value < bound), ("<=", value <= bound)):
        assert bool(list(unmet({"beta": f"{sign} {bound!r}"}, {"beta": value}))) != holds


def test_a_setting_that_does_not_exist_is_told_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'beta'"):
        list(unmet({"betta": "> 0"}, SETTINGS))


@pytest.mark.parametrize("requires", [{"beta": "> much"}, "beta", 3])
def test_a_demand_that_cannot_be_read_is_refused_when_the_strategy_is_made(requires):
    with pytest.raises(ValueError, match="requires"):
        Strategy(constant, requires=requires)


def test_in_library_use_the_trainers_arguments_are_held_to_it():
    from trl import GRPOConfig

    args = GRPOConfig("unused", report_to="none", bf16=False, per_device_train_batch_size=8)
    strategy = Strategy(constant, requires={"epsilon_high": ">= 0.25", "loss_type": "dapo"}, name="mine")
    with pytest.raises(ValueError, match=r"requires epsilon_high >= 0.25.*trainer.epsilon_high.*'mine'"):
        refuse_inexact(args, strategy)
    args.epsilon_high = 0.28
    refuse_inexact(args, strategy)
