"""A reward model that learns, in the lab: measured with what 64 batches have taught it, and not while it learns."""

from __future__ import annotations

import pytest
import torch

from configs.compose import named_strategy
from lab.measure.declarations import enumerated
from lab.measure.scoring import Scorer

LEARNED = "prime credit/signals=reward_model credit.signals.reward_model.learning_rate="
TEXTS_R, GROUP_R = torch.arange(8) % 4, torch.zeros(8, dtype=torch.long)


def test_it_tells_successes_from_failures_and_stands_still_while_it_is_measured():
    learner = enumerated("tiny")
    scorer = Scorer(named_strategy(f"{LEARNED}0.1"), learner)
    model = scorer.strategy.signals[0]._learner.model
    score_N = (model.logps_NT - learner.origin.logps_NT).sum(dim=1)
    success_N = learner.tree.rewards_N >= 0.5
    assert success_N.any() and not success_N.all()
    assert score_N[success_N].mean() > 0.5 + score_N[~success_N].mean()
    one, again = (scorer.rows(TEXTS_R, GROUP_R)[1] for _ in range(2))
    assert torch.equal(one, again) and scorer.strategy.signals[0]._learner.model is model
    other = Scorer(named_strategy("rloo credit/weight=token_mean"), learner).rows(TEXTS_R, GROUP_R)[1]
    assert (one - other).norm() > 0.1 * other.norm()


def test_one_that_learns_nothing_adds_nothing_to_the_outcome():
    """The start's own log-ratio to itself is 0."""
    learner = enumerated("tiny")
    found, outcome = (
        Scorer(named_strategy(words), learner).rows(TEXTS_R, GROUP_R)[1]
        for words in (f"{LEARNED}1e-12", "rloo credit/weight=token_mean")
    )
    torch.testing.assert_close(found, outcome, rtol=0, atol=1e-9)
    assert float(outcome.norm()) == pytest.approx(float(found.norm()), rel=1e-6) and outcome.any()
