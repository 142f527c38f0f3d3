"""Providers of one's own in the trainer: state, evaluation, errors, columns."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from credit import Strategy, provides, weight
from credit.signals import Column
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.resumed import PROMPTS, goes_on_from_everywhere, grpo, live
from support.tiny import tiny_model, tiny_tokenizer
from trainers.seam.members import FILE


@provides(seen_B="batches before this one")
class Counting:
    """Remembers how often it was asked."""

    def __init__(self):
        self.count = 0

    def __call__(self, rows):
        self.count += 1
        return {"seen_B": torch.full((len(rows.mask_BT),), float(self.count))}

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def fading(mask_BT, seen_B, scoring_entropies_BT):
    """Smaller steps with every batch, larger where the policy was undecided."""
    return mask_BT * (1 + scoring_entropies_BT) / (seen_B[:, None] * mask_BT.shape[0] * 6)


def counting() -> Strategy:
    return Strategy(fading, signals=[Counting()], name="counting")


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_not_stopped(tmp_path):
    """State of a provider and statistics of the policy that sampled: both come out of the checkpoint."""

    def make(folder):
        return grpo(counting(), max_steps=3)(folder)

    goes_on_from_everywhere(make, tmp_path, 3, cuts=[1, 2])
    state = torch.load(tmp_path / "whole" / "checkpoint-2" / FILE, weights_only=True)["states"]
    assert state == {"provider of seen_B": {"count": 2}}


@pytest.mark.parametrize("stands_still", [False, True])
def test_what_a_provider_learns_in_evaluation_is_forgotten(tmp_path, stands_still):
    class Mine(Counting):
        stands_still_in_evaluation = stands_still

    strategy = Strategy(fading, signals=[Mine()])
    held_out = Dataset.from_dict({"prompt": PROMPTS[20:24]})
    options = dict(eval_dataset=held_out, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=8)
    live(grpo(strategy, max_steps=2, num_generations_eval=2, **options)(tmp_path))
    assert (strategy.signals[0].count == 2) is not stands_still  # who says so himself is believed


def step(tmp_path, strategy):
    replay_trainer(tiny_model(), tiny_tokenizer(), made_rollouts(1), strategy, str(tmp_path)).train()


def test_an_error_of_a_provider_is_its_own(tmp_path):
    @provides(x_B="x")
    def broken(rows):
        raise KeyError("gold")

    def member(mask_BT, x_B):
        return mask_BT * 1.0

    with pytest.raises(KeyError, match="gold"):
        step(tmp_path, Strategy(member, signals=[broken]))


def test_columns_of_the_data_set_are_named_where_one_is_not_there(tmp_path):
    def member(mask_BT, difficulty_B):
        return mask_BT * 1.0

    with pytest.raises(ValueError, match="no column 'difficulty'"):
        step(tmp_path, Strategy(member, signals=[Column("difficulty")]))


def test_rows_hold_what_reward_functions_get(tmp_path):
    seen = {}

    @provides(x_B="x")
    def look(rows):
        seen.update(vars(rows))
        return {"x_B": rows.rewards_B.nan_to_num()}

    def member(mask_BT, x_B):
        return mask_BT * 1.0

    step(tmp_path, Strategy(member, signals=[look]))
    rollouts = made_rollouts(1)
    assert seen["training"] and seen["wanted"] == {"x_B"} and seen["columns"]["row"] == list(range(16))
    assert seen["prompt_ids"] == [list(ids) for ids in rollouts.prompt_ids for _ in range(4)]
    assert seen["group_B"].tolist() == [p for p in range(4) for _ in range(4)]
    written = [ids[there].tolist() for ids, there in zip(seen["token_ids_BT"], seen["written_BT"], strict=True)]
    assert written == [list(ids) for ids in rollouts.completion_ids]
    rewards = [float("nan") if one is None else one for one in rollouts.rewards]
    assert seen["rewards_B"].tolist() == pytest.approx(rewards, nan_ok=True)
    assert len(seen["completions"]) == 16 and seen["prompts"][0] == "0"


def test_an_unused_provider_is_not_asked(tmp_path):
    @provides(x_B="x")
    def never(rows):
        raise AssertionError

    step(tmp_path, Strategy(weight.constant, signals=[never]))
