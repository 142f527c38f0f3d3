"""Worlds do what their one-line meaning says."""

from __future__ import annotations

import math

import pytest
import torch

from lab.exact.quantities import exact
from lab.exact.tree import grow
from lab.exact.world import END
from lab.exact.worlds import CATALOGUE, brackets, parity, shares, world


@pytest.fixture(params=CATALOGUE)
def name(request):
    return request.param


def test_probabilities_of_all_texts_of_a_prompt_sum_to_one(name):
    found = exact(world(name))
    for prompt in range(found.prompts):
        assert math.isclose(float(found.probs_N[found.tree.prompt_N == prompt].sum()), 1.0, abs_tol=1e-12)


def test_texts_are_distinct_and_within_the_length_limit(name):
    tree = grow(world(name))
    rows = torch.cat([tree.prompt_N[:, None], tree.token_ids_NT, tree.written_NT.long()], dim=1)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert tree.written_NT.sum(dim=1).max() <= world(name).max_length


@pytest.mark.parametrize("policy", ["tabular", "transformer"])
def test_no_credit_belongs_outside_the_deciding_tokens(name, policy):
    found = exact(world(name), policy)
    outside = found.advantages_NT[~found.tree.deciding_NT]
    assert outside.numel() == 0 or outside.abs().max() < 1e-12


def test_some_credit_belongs_to_the_deciding_tokens_unless_the_gradient_vanishes(name):
    found = exact(world(name))
    inside = found.advantages_NT[found.tree.deciding_NT]
    assert (inside.abs().max() > 0.01) if not world(name).vanishing else inside.numel() == 0
    assert (found.reward_gradient.norm() < 1e-12) == world(name).vanishing


def test_tokens_of_the_environment_are_masked_and_tokens_of_the_policy_are_not(name):
    tree = grow(world(name))
    from_environment = tree.token_ids_NT >= len(world(name).actions)
    assert torch.equal(tree.mask_NT, tree.written_NT & ~from_environment)


def test_span_rewards_add_up_to_the_reward(name):
    tree = grow(world(name))
    torch.testing.assert_close(tree.span_rewards_NT.sum(dim=1), tree.rewards_N, rtol=0, atol=1e-12)


def test_length_is_neutral_in_the_filler_world():
    found = exact(world("filler"))
    assert abs(float(found.reward_gradient @ found.length_gradient)) < 1e-15


def test_the_true_gradient_shortens_texts_in_the_poison_world():
    found = exact(world("poison"))
    assert float(found.reward_gradient @ found.length_gradient) < -1e-3


def test_prompts_of_the_levels_world_have_different_success_rates():
    found = exact(world("levels"))
    rates = [float(found.prompt_values_N[found.tree.prompt_N == p][0]) for p in range(3)]
    assert max(rates) - min(rates) > 0.5


def test_brackets_reward_equals_a_plain_parser():
    game = brackets(6)
    tree = grow(game)
    for ids, written, reward in zip(tree.token_ids_NT, tree.written_NT, tree.rewards_N, strict=True):
        text = [game.vocabulary[i] for i in ids[written]]
        body = "".join(text[:-1])
        while "()" in body:
            body = body.replace("()", "")
        assert float(reward) == float(text[-1] == END and len(text) > 1 and body == "")


def test_parity_counts_ones():
    game = parity(3)
    assert game.reward("even", ("1", "1", END)) == 1.0
    assert game.reward("even", ("1", END)) == 0.0
    assert game.reward("odd", ("1", "0", "0")) == 0.0


def test_a_world_too_large_to_enumerate_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr("lab.exact.tree.MAX_TEXTS", 100)
    with pytest.raises(ValueError, match="more than 100 texts"):
        grow(shares(8))


def test_an_unknown_world_is_answered_with_the_list():
    with pytest.raises(ValueError, match="delayed_key"):
        world("delayed_kay")


def test_six_letters_over_five_steps_still_fit():
    found = exact(shares(5, "abcdef"))
    assert len(found.tree.prompt_N) == 2 * 6**5
    assert torch.isfinite(found.reward_gradient).all()
