"""The learned decomposition of the reward over tokens: a baseline whatever was learned, and what it learns."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from credit.baseline import leave_one_out
from credit.critic.decomposition import ReturnDecomposition, values_of
from credit.returns import last_token_rewards
from support.exact.rollouts import rollouts

K, V = 12, 3


def fitted(seed: int = 0) -> ReturnDecomposition:
    """A decomposition with arbitrary weights that are not shrunk."""
    made = ReturnDecomposition(5, features=16, seed=seed)
    made.weights_D.copy_(torch.randn(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    made.agreement_2.fill_(1.0)
    return made


def values(made: ReturnDecomposition, rollout, token_ids_BT=None):
    ids_BT = rollout.token_ids_BT if token_ids_BT is None else token_ids_BT
    contributions_BT, _ = made.contributions(ids_BT, rollout.mask_BT)
    rewards_B = rollout.rewards_B.nan_to_num()
    outcome_BT = last_token_rewards(rewards_B, rollout.mask_BT)
    return values_of(contributions_BT, outcome_BT, rewards_B, rollout.rewards_B, rollout.group_B, rollout.mask_BT)


def doors(rows: int, seed: int):
    """Letters, and the share of them that are right: a reward that is a sum over tokens."""
    generator = torch.Generator().manual_seed(seed)
    key_T = torch.randint(V, (K,), generator=torch.Generator().manual_seed(7))
    letters_BT = torch.randint(V, (rows, K), generator=generator)
    return letters_BT, (letters_BT == key_T).double().mean(1), (letters_BT == key_T).double() / K


@given(rollouts(empty=False))
def test_with_nothing_learned_the_credit_is_leave_one_out(rollout):
    made = ReturnDecomposition(5, features=16)
    credit_BT = rollout.rewards_B.nan_to_num()[:, None] - values(made, rollout)
    learning_BT = rollout.mask_BT & ~rollout.rewards_B.isnan()[:, None]
    expected_BT = leave_one_out(rollout.rewards_B, rollout.group_B)[:, None].expand_as(credit_BT)
    assert torch.allclose(credit_BT[learning_BT], expected_BT[learning_BT], rtol=0, atol=1e-12)


@given(rollouts(empty=False), st.integers(0, 2**31), st.data())
def test_the_value_before_a_token_does_not_know_that_token_nor_what_follows(rollout, seed, data):
    """Whatever was learned: another continuation of the row, and another reward, leave its value where it was."""
    made, row = fitted(), data.draw(st.integers(0, len(rollout.rewards_B) - 1))
    scorable = (~rollout.rewards_B.isnan()) & (rollout.group_B == rollout.group_B[row])
    if scorable.sum() < 2 or not scorable[row] or not rollout.mask_BT[row].any():
        return
    t = data.draw(st.integers(0, rollout.mask_BT.shape[1] - 1))
    other_BT = rollout.token_ids_BT.clone()
    other_BT[row, t:] = torch.randint(5, (other_BT.shape[1] - t,), generator=torch.Generator().manual_seed(seed))
    before = values(made, rollout)[row, : t + 1]
    rewards_B = rollout.rewards_B.clone()
    rewards_B[row] += 1.7
    changed = type(rollout)(**{**rollout.__dict__, "rewards_B": rewards_B})
    after = values(made, changed, other_BT)[row, : t + 1]
    assert torch.allclose(before, after, rtol=0, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_the_fit_does_not_depend_on_the_order_of_the_rows(seed):
    letters_BT, rewards_B, _ = doors(24, seed)
    rewards_B[3] = torch.nan
    group_B, mask_BT = torch.arange(24) // 6, torch.ones(24, K, dtype=torch.bool)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    one, other = ReturnDecomposition(V, features=32), ReturnDecomposition(V, features=32)
    one.fit(one.contributions(letters_BT, mask_BT)[1], rewards_B, group_B)
    other.fit(other.contributions(letters_BT[order], mask_BT)[1], rewards_B[order], group_B[order])
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], rtol=1e-7, atol=1e-9), name


def test_a_reward_that_is_a_sum_over_tokens_is_found():
    """After 30 batches the credit's noise is near that of the exact value: far below leave-one-out's."""
    made, group_B, mask_BT = ReturnDecomposition(V, features=128), torch.arange(16) // 8, torch.ones(16, K).bool()
    for seed in range(60):
        letters_BT, rewards_B, earned_BT = doors(16, seed)
        contributions_BT, sums_BD = made.contributions(letters_BT, mask_BT)
        if seed < 30:
            made.fit(sums_BD, rewards_B, group_B)
            continue
        centred, truth = contributions_BT - contributions_BT.mean(0), earned_BT - earned_BT.mean(0)
        assert torch.corrcoef(torch.stack([centred.flatten(), truth.flatten()]))[0, 1] > 0.9
    assert made.shrinkage > 0.9


def test_rewards_that_no_token_explains_are_shrunk_away():
    made, group_B, mask_BT = ReturnDecomposition(V, features=128), torch.arange(16) // 8, torch.ones(16, K).bool()
    generator = torch.Generator().manual_seed(0)
    for seed in range(40):
        letters_BT, _, _ = doors(16, seed)
        rewards_B = torch.rand(16, generator=generator, dtype=torch.float64)
        made.fit(made.contributions(letters_BT, mask_BT)[1], rewards_B, group_B)
    assert made.shrinkage < 0.3


def test_a_row_that_cannot_be_scored_teaches_nothing():
    letters_BT, rewards_B, _ = doors(16, 0)
    group_B, mask_BT = torch.arange(16) // 8, torch.ones(16, K).bool()
    one, other = ReturnDecomposition(V, features=32), ReturnDecomposition(V, features=32)
    rewards_B[5] = torch.nan
    kept = torch.arange(16) != 5
    one.fit(one.contributions(letters_BT, mask_BT)[1], rewards_B, group_B)
    other.fit(other.contributions(letters_BT[kept], mask_BT[kept])[1], rewards_B[kept], group_B[kept])
    assert torch.allclose(one.weights_D, other.weights_D, rtol=1e-9, atol=1e-12)
