"""The spread `spans`: return-to-go minus what the other rows of the group had to go at that position."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from credit import Strategy
from credit.baseline import leave_one_out
from credit.batch import Rollout
from credit.spread import spans
from credit.weight import constant

STRATEGY = Strategy(weight=constant, baseline=lambda rewards_B: rewards_B.nan_to_num(0.0), spread=spans)


@st.composite
def batches(draw):
    rows, width = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    lengths_B = torch.tensor(draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows)))
    mask_BT = torch.arange(width) < lengths_B[:, None]
    numbers = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=rows * width, max_size=rows * width)
    earned_BT = torch.tensor(draw(numbers), dtype=torch.float64).view(rows, width) * mask_BT
    rewards_B = earned_BT.sum(1)
    unscored_B = torch.tensor(draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))) == 0
    group_B = torch.tensor(draw(st.lists(st.integers(3, 4), min_size=rows, max_size=rows)))
    return earned_BT, rewards_B.masked_fill(unscored_B, torch.nan), group_B, mask_BT


def loop_twin(earned_BT, rewards_B, group_B, mask_BT):
    """The definition, one token at a time."""
    rows, width = mask_BT.shape
    result = torch.zeros_like(earned_BT)

    def to_go(row, position):
        alive = [t for t in range(width) if mask_BT[row, t] or earned_BT[row, t] != 0]
        return earned_BT[row, min(position, max(alive, default=0)) :].sum()

    for row, position in itertools.product(range(rows), range(width)):
        others = [j for j in range(rows) if j != row and group_B[j] == group_B[row] and not rewards_B[j].isnan()]
        if mask_BT[row, position] and others and not rewards_B[row].isnan():
            baseline = sum(to_go(j, position) for j in others) / len(others)
            result[row, position] = earned_BT[row, position:].sum() - baseline
    return result


@given(batches())
@settings(deadline=None)
def test_vectorised_equals_the_definition(batch):
    earned_BT, rewards_B, group_B, mask_BT = batch
    got_BT = spans(earned_BT, rewards_B, group_B, mask_BT).masked_fill(~mask_BT, 0.0)
    torch.testing.assert_close(got_BT, loop_twin(*batch), rtol=0, atol=1e-12)


@given(batches())
@settings(deadline=None)
def test_reward_at_the_last_token_is_leave_one_out_broadcast(batch):
    earned_BT, rewards_B, group_B, mask_BT = batch
    rows = mask_BT.any(dim=1)
    if not rows.any():
        return
    rewards_B, group_B, mask_BT = rewards_B[rows], group_B[rows], mask_BT[rows]
    at_last_BT = torch.zeros_like(earned_BT[rows])
    at_last_BT[torch.arange(len(rewards_B)), mask_BT.sum(1) - 1] = rewards_B.nan_to_num(0.0)
    expected_BT = leave_one_out(rewards_B, group_B)[:, None].expand(mask_BT.shape).masked_fill(~mask_BT, 0.0)
    got_BT = spans(at_last_BT, rewards_B, group_B, mask_BT).masked_fill(~mask_BT, 0.0)
    torch.testing.assert_close(got_BT, expected_BT, rtol=0, atol=1e-12)


@given(batches(), st.randoms())
@settings(deadline=None)
def test_rows_may_stand_in_any_order_and_be_padded(batch, random):
    earned_BT, rewards_B, group_B, mask_BT = batch
    order = list(range(len(rewards_B)))
    random.shuffle(order)
    pad = torch.nn.functional.pad
    moved_BT = spans(pad(earned_BT, (0, 2))[order], rewards_B[order], group_B[order], pad(mask_BT, (0, 2))[order])
    same_BT = spans(*batch)[order]
    torch.testing.assert_close(
        moved_BT[:, :-2].masked_fill(~mask_BT[order], 0), same_BT.masked_fill(~mask_BT[order], 0), rtol=0, atol=1e-12
    )


def test_rows_that_agree_get_exactly_zero():
    earned_BT = torch.full((3, 4), 0.1)
    got_BT = spans(earned_BT, earned_BT.sum(1), torch.zeros(3, dtype=torch.long), torch.ones(3, 4, dtype=torch.bool))
    assert (got_BT == 0).all()


def test_the_strategy_runs_at_scoring_time_and_needs_no_forward():
    assert not STRATEGY.is_live and "span_rewards_BT" in STRATEGY.needs
    rollout = Rollout(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), torch.ones(2, 2, dtype=torch.bool), 2)
    with pytest.raises(ValueError, match="needs span_rewards_BT"):
        STRATEGY.score(rollout)


def exact_gradient_and_estimate(decided_later):
    """A tabular policy over two tokens of two letters, groups of two: E[sum A grad log pi] by enumeration, and the
    gradient of the expected reward. `decided_later` puts what token 1 decides at token 0."""
    torch.manual_seed(0)
    first = torch.randn(2, dtype=torch.float64, requires_grad=True)
    second = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    texts = list(itertools.product(range(2), repeat=2))
    logps = [[first.log_softmax(0)[a], second[a].log_softmax(0)[b]] for a, b in texts]
    parts = [[0.3 * a, 0.7 * (a ^ b) + 0.2 * b] for a, b in texts]
    earned_NT = torch.tensor([[sum(p), 0.0] if decided_later else p for p in parts], dtype=torch.float64)
    rewards_N = torch.tensor([sum(p) for p in parts], dtype=torch.float64)
    probability_N = torch.stack([sum(pair) for pair in logps]).exp()
    true = torch.autograd.grad((probability_N * rewards_N).sum(), [first, second], retain_graph=True)
    loss = 0.0
    for pair in itertools.product(range(len(texts)), repeat=2):
        rows = list(pair)
        credit_BT = spans(
            earned_NT[rows], rewards_N[rows], torch.zeros(2, dtype=torch.long), torch.ones(2, 2, dtype=torch.bool)
        )
        scores = torch.stack([torch.stack(logps[n]) for n in rows])
        loss = loss + (probability_N[rows[0]] * probability_N[rows[1]]).detach() * (credit_BT * scores).sum() / 2
    estimate = torch.autograd.grad(loss, [first, second])
    return [torch.cat([part.flatten() for part in side]) for side in (true, estimate)]


def test_causal_spans_give_the_exact_gradient():
    true, estimate = exact_gradient_and_estimate(decided_later=False)
    torch.testing.assert_close(estimate, true, rtol=0, atol=1e-12)


def test_spans_decided_by_later_text_do_not():
    true, estimate = exact_gradient_and_estimate(decided_later=True)
    assert not torch.allclose(estimate, true, atol=1e-3)
