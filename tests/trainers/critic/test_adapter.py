"""A critic on an adapter beside policies that train more than one: what they train is theirs, and not read."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from credit import Strategy
from credit.baseline import none
from credit.critic import AdapterSpec
from credit.weight import constant
from support.critics import ADAPTER, fit, value
from support.tiny import tiny_model

POLICIES = {
    "whole modules": {"modules_to_save": ["embed_tokens", "norm"]},
    "tokens": {"trainable_token_indices": [3, 4]},
    "a pattern": {"target_modules": ".*q_proj"},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}


def lora(**options) -> LoraConfig:
    return LoraConfig(**({"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options))


@pytest.mark.parametrize("case", POLICIES)
def test_a_critic_that_nobody_reads_leaves_all_that_the_policy_trains_alone(case):
    with_critic, without = (
        fit(
            Strategy(constant, none, critic=critic), max_steps=2, max_grad_norm=0.1, peft_config=lora(**POLICIES[case])
        ).model.state_dict()
        for critic in (ADAPTER, None)
    )
    assert all(torch.equal(with_critic[name], without[name]) for name in without)


def test_the_critic_reads_the_base_whatever_the_policy_has_trained():
    """Before its own adapter has learned anything, moving the policy's weights does not move a value."""
    options = dict(peft_config=lora(modules_to_save=["embed_tokens", "norm"]), learning_rate=0.0)
    trainer = fit(value(AdapterSpec(init_std=0.5, learning_rate=0.0)), **options)
    inputs = {
        "prompt_ids": torch.tensor([[3, 4]]),
        "completion_ids": torch.tensor([[5, 6, 1]]),
        "prompt_mask": torch.ones(1, 2).long(),
        "completion_mask": torch.ones(1, 3).long(),
    }
    before = trainer.critic.pass_of_own(inputs, learn=False)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.5 * parameter.requires_grad
    assert torch.equal(before, trainer.critic.pass_of_own(inputs, learn=False))


def test_modules_may_be_a_pattern_and_only_those_are_adapted():
    for modules in (".*layers.0.*q_proj", ["v_proj"]):
        trainer = fit(value(AdapterSpec(target_modules=modules)), peft_config=lora(), model=tiny_model())
        own = [name for name in trainer.critic.tensors if "lora_A" in name]
        assert len(own) == (1 if isinstance(modules, str) else 2)
