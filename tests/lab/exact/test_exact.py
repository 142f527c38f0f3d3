"""Exact quantities agree with each other, with finite differences and with loop twins."""

from __future__ import annotations

import pytest
import torch

from lab.exact.policies import Tabular
from lab.exact.quantities import Exact, climb, exact
from lab.exact.worlds import CATALOGUE, world

WORLDS = [(name, "tabular") for name in CATALOGUE]
WORLDS += [(name, "transformer") for name in ("tiny", "levels", "filler", "poison")]


@pytest.fixture(params=WORLDS, ids=":".join)
def found(request) -> Exact:
    name, policy = request.param
    return exact(world(name), policy)


def close(one, other, atol=1e-12):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def test_reward_value_baseline_and_ideal_advantage_give_the_same_gradient(found):
    tree = found.tree
    reward_NT = tree.rewards_N[:, None].expand(tree.mask_NT.shape)
    for credit_NT in (reward_NT, reward_NT - found.values_NT, found.advantages_NT):
        weights_NT = found.probs_N[:, None] / found.prompts * credit_NT * tree.mask_NT
        close(found.pull(weights_NT), found.reward_gradient)


def test_ideal_advantages_and_luck_add_up_to_reward_minus_prompt_value(found):
    total_N = found.advantages_NT.sum(dim=1) + found.luck_N
    close(total_N, found.tree.rewards_N - found.prompt_values_N)


def test_the_policy_average_of_the_ideal_advantage_is_zero_in_every_state(found):
    tree = found.tree
    sums = torch.zeros(len(tree.tilt_SA), dtype=torch.float64)
    weights_NT = found.probs_N[:, None] * found.advantages_NT
    sums.index_add_(0, tree.state_NT[tree.mask_NT], weights_NT[tree.mask_NT])
    close(sums, torch.zeros_like(sums))


def test_scores_are_the_gradients_of_the_log_probs(found):
    weights_NT = torch.randn(found.logps_NT.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    from_scores = torch.einsum("nt,ntd->d", weights_NT, found.scores_NTD)
    close(from_scores, found.pull(weights_NT), atol=1e-10)


@pytest.mark.parametrize("policy", ["tabular", "transformer"])
def test_gradients_of_reward_and_length_equal_finite_differences(policy):
    found = exact(world("poison"), policy)
    way = torch.randn(found.theta.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    after, before = found.at(found.theta + step * way), found.at(found.theta - step * way)
    lengths_N, rewards_N = found.tree.lengths_N.double(), found.tree.rewards_N
    for values_N, gradient in ((rewards_N, found.reward_gradient), (lengths_N, found.length_gradient)):
        slope = (after.mean(values_N) - before.mean(values_N)) / (2 * step)
        assert abs(slope - float(gradient @ way)) < 1e-8

    def rewarded_length(at: Exact) -> float:
        return at.mean(rewards_N * lengths_N) / at.mean(rewards_N)

    slope = (rewarded_length(after) - rewarded_length(before)) / (2 * step)
    assert abs(slope - float(found.success_length_gradient @ way)) < 1e-8


def test_values_equal_a_recursion_over_the_rules():
    game = world("two_turn")
    found = exact(game)
    tree, lookup = found.tree, {}
    for n in range(len(tree.prompt_N)):
        text = tuple(game.vocabulary[i] for i in tree.token_ids_NT[n][tree.written_NT[n]])
        for t in range(len(text)):
            if tree.mask_NT[n, t]:
                lookup[int(tree.prompt_N[n]), text[:t]] = found.action_logps_NTA[n, t].exp(), found.values_NT[n, t]

    def value(prompt: int, text: tuple[str, ...]) -> float:
        outcomes = game.observe(game.prompts[prompt], text)
        if outcomes is not None:
            return sum(p * value(prompt, (*text, token)) for token, p in outcomes.items())
        if game.is_complete(text):
            return game.reward(game.prompts[prompt], text)
        probabilities = lookup[prompt, text][0]
        return sum(float(p) * value(prompt, (*text, a)) for p, a in zip(probabilities, game.actions, strict=True))

    for (prompt, text), (_, stored) in lookup.items():
        assert abs(value(prompt, text) - float(stored)) < 1e-12


def test_entropies_are_those_of_the_open_actions():
    found = exact(world("filler"))
    tree = found.tree
    first = found.action_logps_NTA[0, 0].exp()
    assert first[2] == 0  # END is closed at the start
    expected = -(first[:2] * first[:2].log()).sum()
    close(found.entropies_NT[0, 0], expected)
    assert torch.isfinite(found.entropies_NT).all() and (found.entropies_NT[~tree.mask_NT] == 0).all()


def test_the_closed_form_of_tabular_scores_equals_automatic_differentiation():
    found = exact(world("brackets"))
    assert isinstance(found.policy, Tabular)
    jacobian = torch.func.jacrev(lambda theta: found._taken(found._log_softmax(theta)))(found.theta)
    close(found.scores_NTD, jacobian)


def test_climbing_raises_the_reward_and_moves_by_the_length_of_its_steps():
    start = exact(world("parity"))
    end = climb(start, updates=4, step=0.1)
    assert end.mean(end.tree.rewards_N) > start.mean(start.tree.rewards_N) + 0.01
    one = climb(start, updates=1, step=0.1)
    assert abs(float((one.theta - start.theta).norm()) - 0.1) < 1e-12


def test_a_transformer_never_looks_ahead():
    found = exact(world("two_turn"), "transformer")
    inputs = found.policy._inputs_NT[:1].clone()
    before = found.policy.forward(found.theta, inputs)
    inputs[0, -1] = (inputs[0, -1] + 1) % 4
    after = found.policy.forward(found.theta, inputs)
    assert torch.equal(before[:, :-1], after[:, :-1]) and not torch.equal(before[:, -1], after[:, -1])


@pytest.mark.parametrize("policy", ["tabular", "transformer"])
def test_scores_of_items_equal_those_of_their_texts(policy):
    found = exact(world("poison"), policy)
    item_N = found.tree.prompt_N * 2 + (found.tree.rewards_N > 0)
    prob_I = torch.zeros(4, dtype=torch.float64).index_add_(0, item_N, found.probs_N)
    share_N = found.probs_N / prob_I[item_N]
    mean_ITD, spread_ITT = found.expected_scores(item_N, share_N, 4)
    for k in range(4):
        scores_MTD, share_M = found.scores_NTD[item_N == k], share_N[item_N == k]
        mean_TD = torch.einsum("m,mtd->td", share_M, scores_MTD)
        off_MTD = scores_MTD - mean_TD
        close(mean_ITD[k], mean_TD)
        close(spread_ITT[k], torch.einsum("m,mtd,msd->ts", share_M, off_MTD, off_MTD))
