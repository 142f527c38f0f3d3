"""Strategies that remember are measured with what they know after they have seen the world's prompts."""

from __future__ import annotations

import copy

import pytest

from configs.compose import named_strategy
from lab.measure.declarations import enumerated
from lab.measure.estimate import measure, rloo
from lab.measure.scoring import Scorer


def test_a_remembered_baseline_is_unbiased_and_calmer_than_that_of_the_others():
    world = enumerated("tiny")
    strategy = named_strategy("prompt_ema credit.baseline.memory=0.95")
    before = copy.deepcopy(strategy.baseline.state_dict())
    found = measure(world, strategy)
    assert found["relative_bias"] < 1e-9 and found["nsr"] < 0.95 * measure(world, rloo())["nsr"]
    assert len(before["keys"]) == len(strategy.baseline.state_dict()["keys"]) == 0, "the strategy itself was changed"


def test_what_it_knows_is_near_the_value_of_each_prompt():
    world = enumerated("levels")
    known = Scorer(named_strategy("prompt_ema credit.baseline.memory=0.95"), world).strategy.baseline.state_dict()
    values = [
        (world.probs_N * world.tree.rewards_N)[world.tree.prompt_N == p].sum().item() for p in range(world.prompts)
    ]
    assert sorted(known["values"].tolist()) == pytest.approx(sorted(values), abs=0.1) and len(values) >= 1
    assert max(values) > 0.1


def test_without_whitening_the_tracker_is_unbiased_whatever_its_prior():
    found = measure(enumerated("tiny"), named_strategy("spo credit.baseline.whiten=false credit.baseline.start=3"))
    assert found["relative_bias"] < 1e-9
