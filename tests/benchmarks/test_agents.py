"""The errands in tensors are the game of tasks/errands.py: the same words and earnings, and values that a plain sum gives."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from support.published import DOCS
from tasks.errands import Errands

sys.path.insert(0, str(DOCS.parent / "benchmarks" / "agents"))

from tabular import KINDS, Layouts, Settings

from benchmarks.agents.oracle.exact import Best

SMALL = Settings(count=4, options=2, idle=0.2, keys=0.3, lures=0.3)
SHARES = (0.2, 0.3, 0.3)


def some_policy(settings):
    return (
        torch.randn(settings.cells, settings.options + 1, generator=torch.Generator().manual_seed(0))
        .double()
        .softmax(1)
    )


def cell(word, turn, settings):
    within = KINDS.index(word[:-1]) * settings.options + int(word[-1])
    return within + turn * settings.words * settings.by_turn


def test_conversations_are_those_of_the_game():
    layouts, stopped = Layouts(list(range(100)), SMALL), 0
    played = layouts.play(some_policy(SMALL), torch.Generator().manual_seed(1))
    for row in range(100):
        game = Errands(4, 2, *SHARES)
        word, earned = game.reset(seed=row), [0.0] * 4
        for turn in range(4):
            assert played.turns_BJ[row, turn]
            assert cell(word, turn, SMALL) == played.cells_BJ[row, turn]
            if (call := int(played.calls_BJ[row, turn])) == SMALL.options:
                stopped += 1
                assert not played.turns_BJ[row, turn + 1 :].any() and not played.whole_B[row]
                break
            word = game.answer(digit=call)
            earned[turn] = game.rewards[-1]
        assert played.earned_BJ[row].tolist() == pytest.approx(earned)
    assert 10 < stopped < 100 and played.earned_BJ.sum() > 10


@pytest.mark.parametrize("by_turn", [False, True])
def test_the_expected_reward_is_the_sum_over_all_that_can_be_called(by_turn):
    settings = Settings(4, 2, *SHARES, by_turn)
    policy_WA, seeds, total = some_policy(settings), range(12), 0.0
    for seed in seeds:
        for calls in itertools.product(range(3), repeat=4):
            game, chance = Errands(4, 2, *SHARES), 1.0
            word = game.reset(seed=seed)
            for turn, call in enumerate(calls):
                chance *= float(policy_WA[cell(word, turn, settings), call])
                if call == settings.options:
                    chance *= not any(calls[turn + 1 :])  # one sequence stands for all that stop here
                    break
                word = game.answer(digit=call)
            total += chance * sum(game.rewards)
    expected = Layouts(list(seeds), settings).expected_reward(policy_WA)
    assert expected == pytest.approx(total / len(seeds), abs=1e-12) and expected > 0.05


class Told:
    """Rows of conversations that `Layouts.play` made: a turn is one token, a tool's text, masked, one more."""

    def __init__(self, played, policy_WA, seeds):
        live_BJ = torch.cat([played.turns_BJ, played.whole_B[:, None]], 1)  # the turn after the last errand, too
        self.mask_BT = torch.stack([live_BJ, torch.zeros_like(live_BJ)], 2).flatten(1)
        self.rewards_B, self.columns = played.earned_BJ.sum(1), {"seed": seeds}
        calls_BJ = torch.nn.functional.pad(played.calls_BJ, (0, 1), value=policy_WA.shape[1] - 1)
        self.texts = [
            [
                text
                for call in row
                for text in ("" if call == policy_WA.shape[1] - 1 else f"<call>{call}</call>", "shown")
            ]
            for row in calls_BJ.tolist()
        ]
        self.chances_BJA = policy_WA[torch.nn.functional.pad(played.cells_BJ, (0, 1))]

    def token_texts(self):
        return self.texts

    def answer_logps(self, cuts, answers):
        assert [cut // 2 for row in cuts for cut in row] == [j for row in cuts for j in range(len(row))]
        return self.chances_BJA[:, :, int(answers[0][6])].log(), None


def test_the_oracle_credits_what_the_values_before_and_after_a_turn_say():
    """Of a policy that looks at the word only its Q is exact, and Q - V is what was earned plus what the value changed."""
    seeds = list(range(200))
    policy_WA = some_policy(SMALL)
    played = Layouts(seeds, SMALL).play(policy_WA, torch.Generator().manual_seed(1))
    rows = Told(played, policy_WA, seeds)
    found_BT = Best(4, 2, *SHARES)(rows)["best_BT"]
    exact_BJ = (played.earned_BJ + played.values_BJ[:, 1:] - played.values_BJ[:, :-1]) * played.turns_BJ
    assert (found_BT[:, 0:-2:2] - exact_BJ).abs().max() < 1e-12
    assert not found_BT[:, 1::2].any() and not found_BT[:, -2].any() and exact_BJ.abs().sum() > 10
