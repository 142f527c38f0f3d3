"""Steps and epochs as planned are those that the trainer makes."""

from __future__ import annotations

import pytest
from datasets import Dataset
from trl import GRPOConfig, SFTConfig

from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.plan.length import length_of_grpo, length_of_texts
from trainers.plan.machines import as_if_on
from trainers.sft import CreditSFTTrainer, sft_strategy

QUIET = dict(bf16=False, gradient_checkpointing=False, report_to="none", use_cpu=True, disable_tqdm=True)


def long(completions, **columns):
    return [float(len(text)) for text in completions]


def planned_by_trainer(trainer) -> int:
    return trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]


@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 3},
        {"num_train_epochs": 1.5, "gradient_accumulation_steps": 4},
        {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4, "num_iterations": 3},
        {"max_steps": 7, "num_train_epochs": 3},
    ],
)
def test_steps_of_alignment(options, tmp_path):
    args = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=5,
        loss_type="dr_grpo",
        **QUIET,
        **options,
    )
    data = Dataset.from_dict({"prompt": [a + b for a in LETTERS for b in LETTERS][:37]})
    trainer = CreditGRPOTrainer(
        tiny_model(), long, args=args, train_dataset=data, processing_class=tiny_tokenizer(), credit="dr_grpo"
    )
    length = length_of_grpo(args, len(data))
    assert length.steps == planned_by_trainer(trainer)
    assert length.rows == 8 * options.get("gradient_accumulation_steps", 1)
    assert length.tokens == length.steps * length.rows * 5


@pytest.mark.parametrize("drop_last", [False, True])
def test_steps_of_likelihood(drop_last, tmp_path):
    args = SFTConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        max_length=16,
        dataloader_drop_last=drop_last,
        loss_type="nll",
        **QUIET,
    )
    data = Dataset.from_dict({"prompt": ["ab"] * 22, "completion": ["cd"] * 22})
    from credit import Strategy, weight

    trainer = CreditSFTTrainer(
        model=tiny_model(),
        args=args,
        train_dataset=data,
        processing_class=tiny_tokenizer(),
        weight=sft_strategy(Strategy(weight=weight.token_mean)),
    )
    assert length_of_texts(args, 22).steps == planned_by_trainer(trainer) == 6


def test_processes_that_do_not_run_are_counted():
    planned = as_if_on(8, GRPOConfig)
    args = planned(per_device_train_batch_size=1, num_generations=8, max_completion_length=4, max_steps=3, **QUIET)
    assert args.generation_batch_size == 8
    assert length_of_grpo(args, 100).rows == 8
    assert as_if_on(1, GRPOConfig) is GRPOConfig


def test_a_text_is_as_long_as_the_shorter_of_max_length_and_the_models_positions():
    for max_length, positions, longest in [(1024, 512, 512), (100, 512, 100), (None, 512, 512), (100, None, 100)]:
        args = SFTConfig("run", max_length=max_length, use_cpu=True, bf16=False, report_to="none")
        assert length_of_texts(args, 22, positions).tokens_per_row == longest
    assert length_of_texts(args, 22).tokens_per_row == 100
    args = SFTConfig("run", max_length=None, use_cpu=True, bf16=False, report_to="none")
    assert length_of_texts(args, 22).tokens_per_row == 0
