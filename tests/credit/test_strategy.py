"""Composition: signals by name, stages, checks of what members return, declarations."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from credit import Declaration, Rollout, Strategy, baseline, spread, weight
from credit.declare import compose


def rollout(**changes):
    values = dict(
        rewards_B=torch.tensor([1.0, 0.0]),
        group_B=torch.tensor([0, 0]),
        mask_BT=torch.tensor([[1, 1, 0], [1, 0, 0]]).bool(),
        max_length=3,
    )
    return Rollout(**(values | changes))


def test_a_member_gets_exactly_the_signals_it_names():
    seen = {}

    def mine(lengths_B, mask_BT, scale=2.0):
        seen.update(lengths_B=lengths_B, scale=scale)
        return mask_BT / scale

    Strategy(weight=partial(mine, scale=4.0)).score(rollout())
    assert seen["lengths_B"].tolist() == [2, 1] and seen["scale"] == 4.0


def test_a_class_with_call_is_a_member_too():
    class Halving:
        def __call__(self, mask_BT):
            return mask_BT / 2

    assert Strategy(weight=Halving()).score(rollout()).weights_BT.sum() == 1.5


def test_an_unknown_signal_is_refused_with_the_nearest_name():
    def mine(length_B, mask_BT):
        return mask_BT

    with pytest.raises(ValueError, match=r"length_B.*did you mean 'lengths_B'"):
        Strategy(weight=mine)


def test_a_weight_may_not_ask_for_the_live_forward_pass():
    def mine(entropies_BT):
        return entropies_BT

    with pytest.raises(ValueError, match="scoring time"):
        Strategy(weight=mine)


def test_a_live_spread_may_not_look_at_other_rows():
    def mine(entropies_BT, group_B):
        return entropies_BT

    with pytest.raises(ValueError, match="other micro-batches are out of sight"):
        Strategy(weight=weight.constant, spread=mine)


def test_a_live_spread_runs_in_the_loss_and_is_masked_there():
    def mine(advantages_B, entropies_BT):
        return advantages_B[:, None] * entropies_BT

    strategy = Strategy(weight=weight.constant, spread=mine)
    batch = rollout()
    credit = strategy.score(batch)
    assert strategy.is_live and credit.advantages_BT is None
    signals = batch.signals() | {"advantages_B": credit.advantages_B, "entropies_BT": torch.full((2, 3), 2.0)}
    assert strategy.live_advantages(signals).tolist() == [[1.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda mask_BT: mask_BT.float()[:, :1], "returned .*expected"),
        (lambda mask_BT: mask_BT * float("nan"), "NaN or inf"),
        (lambda mask_BT: -mask_BT.float(), "negative"),
        (lambda mask_BT: None, "NoneType"),
    ],
)
def test_a_weight_that_returns_nonsense_is_stopped_by_name(broken, message):
    with pytest.raises(ValueError, match=message):
        Strategy(weight=broken, name="mine").score(rollout())


def test_a_signal_that_is_not_collected_is_explained():
    def mine(token_ids_BT, advantages_B):
        return token_ids_BT * advantages_B[:, None]

    with pytest.raises(ValueError, match="needs token_ids_BT, which this run does not collect"):
        Strategy(weight=weight.constant, spread=mine).score(rollout())


@pytest.mark.parametrize(
    "changes",
    [
        dict(rewards_B=torch.tensor([1, 0])),
        dict(group_B=torch.tensor([0])),
        dict(mask_BT=torch.ones(2, 3)),
        dict(token_ids_BT=torch.ones(2, 4)),
        dict(max_length=0),
    ],
)
def test_a_rollout_of_wrong_shapes_is_refused(changes):
    with pytest.raises(ValueError):
        rollout(**changes)


def test_declarations_compose_to_the_weakest_promise():
    good = Declaration(unbiased=True, weight_class="none", row_constant=True)
    biased = Declaration(unbiased=False, weight_class="future", row_constant=True)
    silent = Declaration()
    assert compose(good, good).unbiased is True
    assert compose(good, biased).unbiased is False and compose(good, biased).weight_class == "future"
    assert compose(good, silent).unbiased is None and compose(good, silent).row_constant is None


def test_a_strategy_may_overrule_what_its_members_declare():
    plain = Strategy(weight=weight.seq_mean, baseline=baseline.group_mean, spread=spread.broadcast)
    assert plain.declaration.unbiased is False
    assert Strategy(weight=weight.seq_mean, declares={"unbiased": True}).declaration.unbiased is True


def test_an_unknown_weight_class_is_refused():
    with pytest.raises(ValueError, match="weight_class"):
        Declaration(weight_class="wild")
