"""What TRL's own test-suite does with its GRPOTrainer, done with ours in its place and no `credit`: the same to the last bit."""

from __future__ import annotations

import pytest
from datasets import IterableDataset
from peft import LoraConfig, PromptTuningConfig

from support.exact.swapped import FIELDS, LORA, assert_same, both, late, lengths, letters, prompts, save_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policy"))


def nothing(completions, **columns):
    return [None] * len(completions)


async def later(completions, **columns):
    return letters(completions)


def closeness(completions, wanted, **columns):
    return [-abs(len(text) - value) for text, value in zip(completions, wanted, strict=True)]


def watchful(completions, trainer_state, log_extra, log_metric, **columns):
    log_extra("length", [len(text) for text in completions])
    log_metric("seen", float(trainer_state.global_step))
    return lengths(completions)


def options(**args):
    return {"args": args}


STEPS = {
    "nothing set": {},
    "chat": dict(train_dataset=prompts(chat=True)),
    "chat template arguments": dict(train_dataset=prompts(chat=True), args=dict(chat_template_kwargs={"think": False})),
    "loss dr_grpo": options(loss_type="dr_grpo", gradient_accumulation_steps=2),  # the others: test_parity.py
    "loss luspo": options(loss_type="luspo", importance_sampling_level="sequence"),
    "several iterations": options(num_iterations=2),
    "sequence ratio": options(num_iterations=2, importance_sampling_level="sequence"),
    "steps per generation": options(steps_per_generation=4, gradient_accumulation_steps=2, max_steps=3),
    "generation batch": options(generation_batch_size=6, max_steps=3),
    "group larger than the batch": options(num_generations=6, gradient_accumulation_steps=2),
    "beta": options(beta=0.1),
    "synchronised reference": options(beta=0.1, sync_ref_model=True, ref_model_sync_steps=1),
    "corrected KL": options(beta=0.1, use_bias_correction_kl=True, num_iterations=2),
    "uncorrected KL": options(beta=0.1, use_bias_correction_kl=False),
    "off-policy mask": options(off_policy_mask_threshold=0.5, num_iterations=2),
    "entropy quantile": options(top_entropy_quantile=0.2),
    "entropy bonus": options(entropy_coef=0.01),
    "adaptive entropy": options(use_adaptive_entropy=True),
    "delta": options(delta=2.0, num_iterations=2),
    **{f"scale {value}": options(scale_rewards=value) for value in (False, "batch", "none")},
    "head in float32": options(cast_lm_head_to_fp32=True),
    "bfloat16 weights": options(model_init_kwargs={"dtype": "bfloat16"}),
    "bfloat16": options(bf16=True),
    "no checkpointing": options(gradient_checkpointing=False),
    "no dropout": options(disable_dropout=True),
    "masked truncated rows": options(mask_truncated_completions=True),
    "padding": options(pad_to_multiple_of=8),
    "sampling": options(top_p=0.9, top_k=5, min_p=0.01, repetition_penalty=1.1),
    "beams": options(generation_kwargs={"do_sample": True, "top_k": 5, "num_beams": 2, "length_penalty": -0.1}),
    "order kept": options(shuffle_dataset=False),
    "completions logged": options(log_completions=True, num_completions_to_print=2, log_unique_prompts=True),
    "adapter": dict(peft_config=LORA()),
    "adapter on all": dict(peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")),
    "adapter without checkpointing": dict(peft_config=LORA(), args=dict(gradient_checkpointing=False)),
    "adapter and beta": dict(peft_config=LORA(), args=dict(beta=0.1)),
    "prompt tuning": dict(peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
    "several rewards": dict(reward_funcs=[lengths, letters]),
    "weights": dict(reward_funcs=[lengths, letters], args=dict(reward_weights=[0.7, 0.3])),
    "normalised before the sum": dict(
        reward_funcs=[lengths, letters], args=dict(multi_objective_aggregation="normalize_then_sum")
    ),
    "abstaining": dict(reward_funcs=[lengths, nothing]),
    "asynchronous": dict(reward_funcs=[lengths, later]),
    "a column": dict(reward_funcs=closeness, train_dataset=prompts(wanted=list(range(12)))),
    "logs of a reward": dict(reward_funcs=watchful),
    "streamed": dict(train_dataset=late(lambda: IterableDataset.from_generator(lambda: iter(prompts())))),
    "two workers": options(dataloader_num_workers=2),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_swap_changes_nothing(name, policy, tmp_path):
    if not STEPS[name].get("args", {}).keys() <= FIELDS:
        pytest.skip("an option this trl does not have")
    stock, ours = both(tmp_path, policy, **STEPS[name])
    assert_same(stock, ours)
    if name == "streamed" and stock["error"]:
        pytest.skip("this trl streams no data")
    assert stock["error"] is None
    assert name in ("masked truncated rows", "beams") or stock["moved"]
