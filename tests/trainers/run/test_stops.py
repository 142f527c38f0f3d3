"""A live member that returns NaN ends the training with its name, before the weights move, on every rank."""

from __future__ import annotations

import json

import pytest
import torch

from credit import Strategy, weight
from credit.critic import HeadSpec
from support.critics import fit
from support.exact.fixed import made_rollouts
from support.ranks.stop import logged_auxiliary, reward_model_learned
from support.runs import RANKS, run_ranks
from support.tiny import tiny_model


class Flaky:
    """A live spread that is finite for some micro-batches and then is not, in a single row."""

    def __init__(self, good: int):
        self.good, self.calls = good, 0

    def __call__(self, advantages_B, entropies_BT):
        self.calls += 1
        credit_BT = advantages_B[:, None] * entropies_BT
        if self.calls > self.good:
            credit_BT[advantages_B.abs().argmax()] /= 0.0
        return credit_BT


def test_nan_of_a_live_spread_stops_before_the_weights_move_and_says_who():
    """Two micro-batches a step. The third optimiser step is spoilt by its first micro-batch; the weights stay those of two."""
    for critic in (None, HeadSpec(learning_rate=0.1)):
        models = tiny_model(), tiny_model()
        options = dict(accumulation=2, learning_rate=1e-2, lr_scheduler_type="constant")
        fit(Strategy(weight.constant, spread=Flaky(99), critic=critic), model=models[0], max_steps=2, **options)
        with pytest.raises(ValueError, match="spread Flaky of credit strategy 'mine' returned NaN or inf"):
            fit(
                Strategy(weight.constant, spread=Flaky(4), critic=critic, name="mine"),
                model=models[1],
                max_steps=4,
                **options,
            )
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(one, other) and other.isfinite().all()


def test_a_ratio_that_overflows_on_its_second_visit_stops_too():
    def steep(policy_logps_BT, sampler_logps_BT):
        return 1e9 * (policy_logps_BT - sampler_logps_BT).abs()

    with pytest.raises(ValueError, match="ratio steep"):
        fit(Strategy(weight.constant, ratio=steep), max_steps=2, num_iterations=2, learning_rate=0.1)


def test_a_live_spread_that_writes_into_the_batch_stops_the_training():
    def sharpened(advantages_B, policy_logps_BT):
        return advantages_B[:, None] * policy_logps_BT.mul_(2).exp()

    with pytest.raises(ValueError, match=r"spread sharpened .*wrote into policy_logps_BT.*policy_logps_BT.clone"):
        fit(Strategy(weight.constant, spread=sharpened), rollouts=made_rollouts(1))


def test_what_goes_wrong_on_one_rank_stops_both_with_the_same_words(tmp_path):
    run_ranks(RANKS / "stop.py", tmp_path)
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert found[0] == found[1]
    assert "spread lopsided of credit strategy 'mine' returned NaN" in found[0]["nan"]["message"]
    assert (
        "After generation batch 1 the baseline of credit strategy 'mine' does not remember"
        in found[0]["memory"]["message"]
    )
    assert "live_weight sunken of credit strategy 'mine' is negative" in found[0]["negative"]["message"]
    assert all(found[0][name]["steps"] == 0 for name in ("nan", "negative", "memory"))
    assert found[0]["reward model"] == pytest.approx(reward_model_learned(1), abs=2e-4)
    logged, alone = found[0]["auxiliary"], logged_auxiliary(1)
    assert [sum(logged[:2]) / 2, sum(logged[2:]) / 2] == pytest.approx(alone, rel=1e-4) and alone[0] != alone[1]
