"""GRPO with the model's own likelihood as the reward, in the trainer itself: plain samples get a sequence temperature."""

from __future__ import annotations

import pytest
from datasets import Dataset
from transformers import LlamaForCausalLM
from trl import GRPOConfig

from configs.compose import named_strategy
from rewards.likelihood import own_likelihood
from sampling.exact import enumerate_texts, total_variation
from support.four_tokens import LIMIT, four_token_model, table_of
from support.tiny import tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

PROMPT = [2]  # "?" is no letter of the tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("place", ["reward", "loss"])
def test_the_penalty_in_the_reward_leads_to_sequence_temperature_and_trls_term_does_not(place, tmp_path):
    """alpha = 2, so beta = 1. Every text of four tokens and three places is enumerated before and after."""
    four_token_model().save_pretrained(tmp_path / "start")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "start")
    target_X = enumerate_texts(table_of(model, PROMPT), LIMIT, 2.0).target_X
    start_X = enumerate_texts(table_of(model, PROMPT), LIMIT, 1.0).q_X
    args = GRPOConfig(
        str(tmp_path / "run"), per_device_train_batch_size=256, num_generations=16, max_completion_length=LIMIT, beta=1.0,
        max_steps=120, learning_rate=1e-3, lr_scheduler_type="cosine", adam_beta2=0.99, seed=0, use_cpu=True, bf16=False,
        report_to="none", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False, loss_type="dr_grpo",
    )  # fmt: skip
    CreditGRPOTrainer(
        model=model,
        reward_funcs=own_likelihood,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["?"] * 512}),
        processing_class=tiny_tokenizer(),
        credit=named_strategy(f"dr_grpo credit.kl_in_reward={str(place == 'reward').lower()}"),
    ).train()
    reached_X = enumerate_texts(table_of(model, PROMPT), LIMIT, 1.0).q_X
    assert total_variation(start_X, target_X) > 0.15
    if place == "reward":
        assert total_variation(reached_X, target_X) < 0.03
    else:
        assert 0.04 < total_variation(reached_X, target_X) < total_variation(start_X, target_X)
