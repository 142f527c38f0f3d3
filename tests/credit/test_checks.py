"""What a member may not do: return NaN or inf where it counts, or write into the batch. It is stopped by its name."""

from __future__ import annotations

import pytest
import torch

from credit import Rollout, Strategy, weight
from credit.checks import Doubts, Hands

NAN, INF = float("nan"), float("inf")


def rollout(**changes) -> Rollout:
    values = dict(
        rewards_B=torch.tensor([1.0, 0.0, NAN]),
        group_B=torch.tensor([0, 0, 0]),
        mask_BT=torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool(),
        max_length=3,
        token_ids_BT=torch.arange(9).view(3, 3),
    )
    return Rollout(**(values | changes))


def live(strategy: Strategy, **changes) -> dict:
    """Signals of a micro-batch in the loss."""
    batch = rollout()
    numbers_BT = torch.full((3, 3), -0.5)
    signals = {name: value for name, value in batch.signals().items() if name != "group_B"}
    signals |= {"advantages_B": strategy.advantages(batch), "policy_logps_BT": numbers_BT}
    return signals | {"sampler_logps_BT": numbers_BT.clone(), "entropies_BT": -numbers_BT} | changes


def test_nan_from_a_live_spread_is_stopped_by_its_name():
    def surprised(advantages_B, policy_logps_BT):
        return advantages_B[:, None] * (policy_logps_BT + 0.5).log()  # log 0

    strategy = Strategy(weight.constant, spread=surprised, name="mine")
    with pytest.raises(ValueError, match=r"spread surprised of credit strategy 'mine' returned NaN or inf.*finite"):
        strategy.live_advantages(live(strategy))


@pytest.mark.parametrize("number", [NAN, INF, 200.0])
def test_a_ratio_that_is_not_finite_or_overflows_is_stopped_by_its_name(number):
    def wild(policy_logps_BT):
        return torch.full_like(policy_logps_BT, number)

    strategy = Strategy(weight.constant, ratio=wild, name="mine")
    with pytest.raises(ValueError, match="ratio wild of credit strategy 'mine'"):
        strategy.log_ratio(live(strategy))


def test_where_nothing_is_learned_a_member_may_return_what_it_likes():
    """Padding, and every token of an unscorable row; at scoring time and in the loss."""

    def by_reward(rewards_B, mask_BT):
        return torch.where(mask_BT, rewards_B[:, None], torch.tensor(INF))

    def by_surprise(rewards_B, policy_logps_BT, mask_BT):
        return torch.where(mask_BT, rewards_B[:, None] * policy_logps_BT, torch.tensor(NAN))

    expected = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert Strategy(weight.constant, spread=by_reward).score(rollout()).advantages_BT.tolist() == expected
    strategy = Strategy(weight.constant, spread=by_surprise)
    assert strategy.live_advantages(live(strategy)).mul(-2).abs().tolist() == expected


def test_the_message_says_when_the_numbers_went_wrong_before_the_member():
    def surprised(advantages_B, policy_logps_BT):
        return advantages_B[:, None] * policy_logps_BT

    strategy = Strategy(weight.constant, spread=surprised)
    broken_BT = torch.full((3, 3), -0.5)
    broken_BT[0, 1] = NAN
    with pytest.raises(ValueError, match=r"spread surprised.*so had what it was given: policy_logps_BT"):
        strategy.live_advantages(live(strategy, policy_logps_BT=broken_BT))
    only_padding_BT = torch.full((3, 3), -0.5)
    only_padding_BT[1, 2] = NAN
    assert strategy.live_advantages(live(strategy, policy_logps_BT=only_padding_BT)).isfinite().all()


def test_doubts_wait_until_they_are_settled_and_are_forgotten_then():
    calls = []

    def sometimes(advantages_B, entropies_BT):
        calls.append(len(calls))
        return advantages_B[:, None] * entropies_BT + (NAN if len(calls) == 2 else 0.0)

    strategy, doubts = Strategy(weight.constant, spread=sometimes), Doubts()
    for _ in range(3):
        strategy.live_advantages(live(strategy), doubts)
    with pytest.raises(ValueError, match="spread sometimes"):
        doubts.settle(doubts.flags())
    assert doubts.flags() is None
    strategy.live_advantages(live(strategy), doubts)
    doubts.settle(doubts.flags())


# ---- hands off the batch


def _in_place(rewards_B, group_B):
    rewards_B -= rewards_B.nanmean()
    return rewards_B


def _through_a_view(rewards_B, mask_BT):
    mask_BT[:, 1:].fill_(False)
    return rewards_B


def _out(rewards_B, lengths_B):
    return torch.mul(rewards_B, 2.0, out=rewards_B)


def _by_numpy(rewards_B):
    numbers = rewards_B.numpy()
    numbers -= 0.5
    return torch.tensor(numbers)


def _by_data(token_ids_BT, rewards_B):
    token_ids_BT.data.zero_()
    return rewards_B


@pytest.mark.parametrize("member", [_in_place, _through_a_view, _out, _by_numpy, _by_data])
def test_a_baseline_that_writes_into_the_batch_is_stopped_by_its_name_with_the_signal_and_the_remedy(member):
    with pytest.raises(ValueError, match=rf"baseline {member.__name__} of credit strategy 'mine' wrote into .*clone"):
        Strategy(weight.constant, baseline=member, name="mine").score(rollout())


def test_writing_is_noticed_in_every_place_a_member_stands_in():
    def spread(advantages_B, mask_BT):
        mask_BT &= False
        return advantages_B[:, None] * mask_BT

    def heavy(lengths_B, mask_BT):
        lengths_B.clamp_(max=1)
        return mask_BT / lengths_B[:, None]

    def surprised(advantages_B, policy_logps_BT):
        return advantages_B[:, None] * policy_logps_BT.exp_()

    def ratio(policy_logps_BT, sampler_logps_BT):
        return policy_logps_BT.sub_(sampler_logps_BT)

    for members, signal in (({"spread": spread}, "mask_BT"), ({"weight": heavy}, "lengths_B")):
        with pytest.raises(ValueError, match=f"wrote into {signal}"):
            Strategy(**({"weight": weight.constant} | members)).score(rollout())
    for axis, member in (("spread", surprised), ("ratio", ratio)):
        strategy = Strategy(weight.constant, **{axis: member})
        call = strategy.live_advantages if axis == "spread" else strategy.log_ratio
        with pytest.raises(ValueError, match=f"{axis} {member.__name__} .*wrote into policy_logps_BT"):
            call(live(strategy))


def test_returning_a_signal_itself_or_a_view_of_it_is_no_writing():
    def alias(rewards_B):
        return rewards_B

    def view(advantages_B, mask_BT):
        return advantages_B[:, None].expand(mask_BT.shape)

    batch = rollout()
    credit = Strategy(lambda mask_BT: mask_BT, alias, view).score(batch)
    assert credit.advantages_BT.sum() == 2.0 and batch.rewards_B[2].isnan()


def test_a_column_is_looked_at_whatever_its_strides_are():
    """Completions of one token, as they may come out of a transpose: (B, 1) with strides (1, B) counts as contiguous."""
    column_BT = torch.ones(1, 4).T
    hands = Hands({"values_BT": column_BT})
    assert hands.written() == []
    column_BT[2] = 3.0
    assert hands.written() == ["values_BT"]
