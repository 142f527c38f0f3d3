"""The optimal token baseline: a twin by loops, and what it becomes where nothing sets the rows apart."""

from __future__ import annotations

import random

import pytest
import torch

from credit.baseline import leave_one_out
from credit.methods.otb import optimal_token, optimal_token_turns
from credit.returns import last_token_rewards

EPS = 0.01


def batch(seed: int, tool: bool = False):
    """Ragged rows of three groups; one unscorable, one without a learning token, one group with a single scorable row."""
    rng, rows, width = random.Random(seed), 11, 6
    group_B = torch.tensor([7, 7, 7, 7, 2, 2, 2, 2, 5, 5, 5])
    mask_BT = torch.zeros(rows, width, dtype=torch.bool)
    for b in range(rows):
        mask_BT[b, : rng.randint(1, width)] = True
    mask_BT[2] = False
    if tool:
        mask_BT[0, 1:3] = mask_BT[5, 2] = False
        mask_BT[0, 3:] = mask_BT[5, 3:] = True
    rewards_B = torch.tensor([rng.random() for _ in range(rows)], dtype=torch.float64)
    rewards_B[6] = rewards_B[8] = rewards_B[9] = torch.nan
    generator = torch.Generator().manual_seed(seed)
    probs_BTV = torch.rand(rows, width, 4, generator=generator, dtype=torch.float64).pow(2)
    probs_BTV /= probs_BTV.sum(-1, keepdim=True)
    kl_BT = 0.1 * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    advantages_B = rewards_B.nan_to_num()
    return {
        "token_rewards_BT": last_token_rewards(advantages_B, mask_BT) + kl_BT.masked_fill(~mask_BT, 0.0),
        "advantages_B": advantages_B,
        "rewards_B": rewards_B,
        "group_B": group_B,
        "mask_BT": mask_BT,
        "scoring_logps_BT": probs_BTV[..., 0].log(),
        "scoring_sum_sq_BT": probs_BTV.square().sum(-1),
    }


def by_loops(given: dict, by_own_tokens: bool) -> torch.Tensor:
    """As the formula says, row by row and token by token."""
    rows, width = given["mask_BT"].shape
    own = [[t for t in range(width) if given["mask_BT"][b, t]] for b in range(rows)]

    def upto(b: int, t: int, count: int) -> list[int]:
        """Row b's own tokens that stand before the point of comparison, this one included."""
        return own[b][:count] if by_own_tokens else [s for s in own[b] if s <= t]

    def energy(b: int, tokens: list[int]) -> float:
        found = 0.0
        for s in tokens:
            p = float(given["scoring_logps_BT"][b, s].exp())
            found += 1 - 2 * p + float(given["scoring_sum_sq_BT"][b, s])
        return found + EPS

    def to_go(b: int, tokens: list[int], at_own: bool) -> float:
        """What is still to come at the point; a row that is over keeps what was to come at its last token."""
        if not own[b]:
            return float(given["advantages_B"][b])
        seen = len(tokens) if at_own else len(tokens) + 1
        start = own[b][min(seen, len(own[b])) - 1]
        return sum(float(given["token_rewards_BT"][b, s]) for s in own[b] if s >= start)

    scorable = [not given["rewards_B"][b].isnan() for b in range(rows)]
    credit = torch.zeros(rows, width, dtype=torch.float64)
    for b in range(rows):
        others = [j for j in range(rows) if j != b and given["group_B"][j] == given["group_B"][b] and scorable[j]]
        if not scorable[b] or not others:
            continue
        for k, t in enumerate(own[b], start=1):
            weights, returns = [], []
            for j in others:
                tokens = upto(j, t, k)
                is_own = by_own_tokens or (t in own[j])
                weights.append(energy(j, tokens))
                returns.append(to_go(j, tokens, is_own))
            mean = sum(w * g for w, g in zip(weights, returns, strict=True)) / sum(weights)
            credit[b, t] = to_go(b, own[b][:k], True) - mean
    return credit


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tool", [False, True])
def test_it_is_what_the_formula_says(seed, tool):
    given = batch(seed, tool)
    for member, by_own_tokens in ((optimal_token, False), (optimal_token_turns, True)):
        made = member(**given).masked_fill(~given["mask_BT"], 0.0)
        assert (made - by_loops(given, by_own_tokens)).abs().max() < 1e-12


def test_without_tool_text_the_two_forms_are_one():
    given = batch(3)
    inside = given["mask_BT"]
    assert torch.equal(optimal_token(**given)[inside], optimal_token_turns(**given)[inside])
    given = batch(3, tool=True)
    inside = given["mask_BT"]
    assert (optimal_token(**given) - optimal_token_turns(**given))[inside].abs().max() > 1e-3


def test_rows_that_have_decided_equally_much_are_averaged_plainly():
    given = batch(1)
    given["token_rewards_BT"] = last_token_rewards(given["advantages_B"], given["mask_BT"])
    given["scoring_logps_BT"] = torch.zeros_like(given["scoring_logps_BT"])  # certain: no energy at all
    given["scoring_sum_sq_BT"] = torch.ones_like(given["scoring_sum_sq_BT"])
    expected_B = leave_one_out(given["rewards_B"], given["group_B"])
    apart_BT = (optimal_token(**given) - expected_B[:, None]).masked_fill(~given["mask_BT"], 0.0)
    assert apart_BT.abs().max() < 1e-12 and expected_B.abs().max() > 0.1


def test_a_group_that_agrees_gets_exactly_nothing():
    given = batch(2)
    given["rewards_B"] = torch.full_like(given["rewards_B"], 0.3)
    given["advantages_B"] = given["rewards_B"]
    given["token_rewards_BT"] = last_token_rewards(given["advantages_B"], given["mask_BT"])
    assert (optimal_token(**given)[given["mask_BT"]] == 0).all()
