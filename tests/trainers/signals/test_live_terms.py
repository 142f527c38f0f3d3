"""Live weights and auxiliaries in the trainer: what is logged of them however the batch is cut, resume, and who is stopped."""

from __future__ import annotations

import pytest

from credit.methods.auxiliary import LikelihoodOfSuccesses
from credit.methods.live import entropy
from credit.strategy import Strategy
from credit.weight import token_mean
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_gradients
from support.resumed import HELD_OUT, goes_on_from_everywhere, grpo
from support.tiny import tiny_model, tiny_tokenizer


def masses(accumulation: int) -> list[float]:
    """The live mass of two steps on the same rollouts, the policy having moved between them; held against what was used."""
    used, logged = [0.0, 0.0], {}

    def observe(trainer, visit):
        used[trainer.state.global_step] += float(visit.weights_BT.sum())
        logged["live_mass"] = trainer._metrics["train"]["credit/live_mass"]
        logged["mass"] = trainer._metrics["train"]["credit/mass"]

    strategy = Strategy(token_mean, live_weight=entropy, unit_mass=True)
    options = dict(num_iterations=2, max_steps=2, drift=(0.05, 0.2), logging_steps=10)
    replay_gradients(
        tiny_model(), tiny_tokenizer(), made_rollouts(0), strategy, accumulation, observe=observe, **options
    )
    assert logged["mass"] == pytest.approx([1.0] * len(logged["mass"]), rel=1e-5)
    logged = logged["live_mass"]
    each = [sum(logged[step * accumulation : (step + 1) * accumulation]) / accumulation for step in (0, 1)]
    assert each == pytest.approx(used, rel=1e-5)
    return used


def test_the_live_mass_is_1_until_the_policy_moves_however_the_batch_is_cut():
    whole, cut = masses(1), masses(4)
    assert whole == pytest.approx(cut, rel=1e-5)
    assert whole[0] == pytest.approx(1.0, rel=1e-5) and abs(whole[1] - 1.0) > 1e-3


def likelihoods(accumulation: int) -> tuple[list[float], list[float]]:
    """What is logged as the auxiliary in two steps, and what a loop makes of the rows that the loss saw."""
    said, logged = [[], []], {}

    def observe(trainer, visit):
        signals, step = visit.signals, trainer.state.global_step
        for reward, logps_T, mask_T in zip(
            signals["rewards_B"], signals["policy_logps_BT"], visit.mask_BT, strict=True
        ):
            if reward >= 0.3:
                said[step] += [-float(logp) for logp, there in zip(logps_T, mask_T, strict=True) if there]
        logged["found"] = trainer._metrics["train"]["credit/auxiliary"]

    strategy = Strategy(token_mean, auxiliary=LikelihoodOfSuccesses(0.2, 0.3))
    options = dict(num_iterations=2, max_steps=2, drift=(0.05, 0.2), logging_steps=10)
    replay_gradients(
        tiny_model(), tiny_tokenizer(), made_rollouts(0), strategy, accumulation, observe=observe, **options
    )
    found = logged["found"]
    each = [sum(found[step * accumulation : (step + 1) * accumulation]) / accumulation for step in (0, 1)]
    return each, [0.2 * sum(rows) / len(rows) for rows in said]


def test_the_auxiliary_is_logged_as_it_counts_however_the_batch_is_cut():
    for accumulation in (1, 4):
        logged, looped = likelihoods(accumulation)
        assert logged == pytest.approx(looped, rel=1e-5) and abs(logged[0] - logged[1]) > 1e-3


class Fading(LikelihoodOfSuccesses):
    """Counts less with each generation batch."""

    batches = 0

    def measure(self, rewards_B, mask_BT):
        self.batches += 1
        return super().measure(rewards_B, mask_BT) / self.batches

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]


def test_a_run_with_a_live_weight_and_an_auxiliary_that_remembers_goes_on_to_the_bit(tmp_path):
    def make(folder):
        strategy = Strategy(token_mean, live_weight=entropy, unit_mass=True, auxiliary=Fading(0.5, 0.0))
        return grpo(strategy, max_steps=4, num_iterations=2, **HELD_OUT)(folder)

    whole = goes_on_from_everywhere(make, tmp_path, 4, cuts=[2])
    assert whole.trainer.credit.auxiliary.batches == 2, "two batches of training; evaluation is not counted"
    assert any(row.get("credit/auxiliary") for row in whole.logs) and any(
        "credit/live_mass" in row for row in whole.logs
    )


class Forgetful(LikelihoodOfSuccesses):
    """Keeps the same, and saves it nowhere."""

    batches = 0

    def measure(self, rewards_B, mask_BT):
        self.batches += 1
        return super().measure(rewards_B, mask_BT)


def test_an_auxiliary_whose_state_would_be_lost_is_told_once(caplog):
    options = dict(max_steps=2)
    replay_gradients(
        tiny_model(), tiny_tokenizer(), made_rollouts(0), Strategy(token_mean, auxiliary=Forgetful()), 2, **options
    )
    assert sum("auxiliary of credit strategy 'custom' keeps state" in record.message for record in caplog.records) == 1


def below(entropies_BT):
    return entropies_BT - 3.0


def test_a_live_weight_below_0_stops_before_the_weights_move():
    with pytest.raises(ValueError, match="live_weight below of credit strategy 'custom' is negative"):
        replay_gradients(tiny_model(), tiny_tokenizer(), made_rollouts(0), Strategy(token_mean, live_weight=below), 2)
