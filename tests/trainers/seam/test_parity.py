"""With the matching strategy, training gives the parameters that stock TRL gives; so does credit=None for every loss."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from support.exact.fixed import distance
from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

# TRL's loss -> our strategy (with scale_rewards="none": a group mean without std)
MATCHING = {
    "grpo": "dr_grpo credit/weight=seq_mean",
    "dapo": "dr_grpo credit/weight=token_mean",
    "dr_grpo": "dr_grpo",
}


def vowels(completions, **columns):
    return [sum(text.count(letter) for letter in "ae") / 4 - len(text) / 40 for text in completions]


def trained(trainer_class, folder, config_class=GRPOConfig, **options) -> torch.Tensor:
    """The update: parameters after training minus before."""
    credit = {"credit": options.pop("credit")} if "credit" in options else {}
    tiny_model().save_pretrained(folder / "model")
    model = LlamaForCausalLM.from_pretrained(folder / "model")  # TRL loads the reference policy from the same place
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    settings = dict(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_completion_length=6,
        max_steps=4,
        learning_rate=1e-2,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
        **({"scale_rewards": "none"} if config_class is GRPOConfig else {}),
    )
    trainer = trainer_class(
        model=model,
        reward_funcs=vowels,
        args=config_class(**(settings | options)),
        train_dataset=Dataset.from_dict({"prompt": [a + b for a in LETTERS for b in LETTERS]}),
        processing_class=tiny_tokenizer(),
        **credit,
    )
    trainer.train()
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("num_iterations", [1, 2])
@pytest.mark.parametrize("loss_type", MATCHING)
def test_the_matching_strategy_trains_what_trl_trains(loss_type, num_iterations, beta, tmp_path):
    options = dict(loss_type=loss_type, beta=beta, num_iterations=num_iterations)
    stock = trained(GRPOTrainer, tmp_path / "stock", **options)
    ours = trained(CreditGRPOTrainer, tmp_path / "ours", credit=MATCHING[loss_type], **options)
    assert stock.norm() > 0.01
    assert distance(stock, ours) <= 1e-6


def test_rloo_with_the_penalty_in_the_reward_trains_what_trls_rloo_trains(tmp_path):
    """On-policy, where TRL's ratio of the whole sequence is 1 as ours of the token."""
    options = dict(beta=0.5, max_steps=3)
    theirs = trained(RLOOTrainer, tmp_path / "trl", RLOOConfig, **options)
    ours = trained(CreditGRPOTrainer, tmp_path / "ours", credit="rloo credit.kl_in_reward=true", **options)
    plain = trained(CreditGRPOTrainer, tmp_path / "plain", credit="rloo", **options)
    assert theirs.norm() > 0.01
    assert distance(theirs, ours) < 1e-4
    assert distance(theirs, plain) > 1e-2  # TRL's GRPO has another estimate of the KL, in the loss


def test_the_weights_survive_another_base_loss(tmp_path):
    """Without KL the base loss only supplies the surrogate: GRPO's update also comes out of dr_grpo's and dapo's loss."""
    stock = trained(GRPOTrainer, tmp_path / "stock", loss_type="grpo")
    for base in ("dr_grpo", "dapo"):
        ours = trained(CreditGRPOTrainer, tmp_path / base, loss_type=base, credit=MATCHING["grpo"])
        assert distance(stock, ours) < 2e-4  # four Adam steps amplify rounding; the gradients agree to 1e-6


def test_several_optimiser_steps_per_generation_keep_the_mass_of_each(tmp_path):
    options = dict(loss_type="dr_grpo", steps_per_generation=4)
    stock = trained(GRPOTrainer, tmp_path / "stock", **options)
    assert distance(stock, trained(CreditGRPOTrainer, tmp_path / "ours", credit="dr_grpo", **options)) <= 1e-6


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dapo", "sapo", "cispo", "vespo"])
def test_without_a_strategy_every_loss_is_trls_own(loss_type, tmp_path):
    options = dict(loss_type=loss_type, max_steps=2)
    stock = trained(GRPOTrainer, tmp_path / "stock", **options)
    assert torch.equal(stock, trained(CreditGRPOTrainer, tmp_path / "ours", **options))


def test_another_strategy_trains_something_else(tmp_path):
    stock = trained(GRPOTrainer, tmp_path / "stock", loss_type="grpo", max_steps=2)
    ours = trained(CreditGRPOTrainer, tmp_path / "ours", loss_type="grpo", max_steps=2, credit="dr_grpo")
    assert distance(stock, ours) > 1e-2
