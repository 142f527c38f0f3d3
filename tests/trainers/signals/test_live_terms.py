"""A live weight in the trainer: what it weighs is measured over micro-batches, and one below 0 stops the run by name."""

from __future__ import annotations

import pytest

from credit.methods.live import entropy
from credit.strategy import Strategy
from credit.weight import token_mean
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_gradients
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


def below(entropies_BT):
    return entropies_BT - 3.0


def test_a_live_weight_below_0_stops_before_the_weights_move():
    with pytest.raises(ValueError, match="live_weight below of credit strategy 'custom' is negative"):
        replay_gradients(tiny_model(), tiny_tokenizer(), made_rollouts(0), Strategy(token_mean, live_weight=below), 2)
