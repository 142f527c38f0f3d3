"""A `rollout_func` that plays conversations itself says by a column what each turn earned."""

from __future__ import annotations

import torch
from datasets import Dataset
from trl import GRPOConfig

from credit import Strategy, weight
from rewards.text.turn_column import TurnColumn, turn_column
from support.resumed import EVERY_STEP
from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

# Three turns, one turn, two turns and a mask that ends in what a tool said, two turns.
MASKS = [[1, 1, 0, 1, 0, 0, 1], [1, 1, 1], [0, 1, 0, 1, 0], [1, 0, 1]]
EARNED = [[1.0, 2.0, 4.0], [8.0], [16.0, 32.0], None]


def rollouts(prompts, trainer):
    ids = [[3 + t for t in range(len(mask))] for mask in MASKS]
    return {
        "prompt_ids": [[3]] * len(prompts),
        "completion_ids": ids,
        "logprobs": [[-1.0] * len(row) for row in ids],
        "env_mask": [list(mask) for mask in MASKS],
        "turn_rewards": EARNED,
    }


def test_what_a_column_says_stands_at_the_last_token_of_its_turn(tmp_path):
    seen = []

    def watching(turn_rewards_BT, turn_BT, rewards_B):
        seen.append((turn_rewards_BT, turn_BT, rewards_B))
        return turn_rewards_BT

    CreditGRPOTrainer(
        model=tiny_model(),
        reward_funcs=[turn_column],
        args=GRPOConfig(
            str(tmp_path),
            **(EVERY_STEP | dict(per_device_train_batch_size=4, num_generations=4, max_completion_length=8)),
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a"] * 4}),
        processing_class=tiny_tokenizer(),
        rollout_func=rollouts,
        credit=Strategy(weight.constant, spread=watching),
    )._generate_and_score_completions([{"prompt": "a"} for _ in range(4)])
    ((earned_BT, turn_BT, rewards_B),) = seen
    assert rewards_B[:3].tolist() == [7.0, 8.0, 48.0] and rewards_B[3].isnan()
    assert turn_BT.amax(dim=1).tolist() == [2, 0, 1, 1]
    expected = [[0, 1, 0, 2, 0, 0, 4], [0, 0, 8, 0, 0, 0, 0], [0, 16, 0, 32, 0, 0, 0], [0] * 7]
    assert torch.equal(earned_BT, torch.tensor(expected, dtype=earned_BT.dtype))


def test_a_column_of_another_name_as_a_mapping_from_json():
    column = TurnColumn("paid")
    cells = [{"1": 0.5}, [None, 2], None, {}]
    assert column.turn_rewards([], [], paid=cells) == [{1: 0.5}, {0: 0.0, 1: 2.0}, None, {}]
    assert column([], [], paid=cells) == [0.5, 2.0, None, 0]
