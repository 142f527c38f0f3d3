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
