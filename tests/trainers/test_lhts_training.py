"""Long Horizon Temperature Scaling through the trainer: reaches the enumerated optimum, resumes, keeps p frozen."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from sampling.exact import enumerate_texts, horizon_conditionals, total_variation
from sampling.tabular import TabularModel
from support.four_tokens import LIMIT, four_token_model, table_of
from support.tiny import tiny_model, tiny_tokenizer
from trainers.lhts import LHTS, LHTSTrainer
from trainers.model.tau_input import load_tau_input


def trainer_for(folder, model, lhts, data=None, **config):
    settings = {
        "output_dir": str(folder), "per_device_train_batch_size": 256, "max_steps": 100, "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine", "max_grad_norm": 1.0, "logging_steps": 1, "report_to": "none", "bf16": False,
        "save_strategy": "no", "gradient_checkpointing": False, "use_cpu": True, "disable_tqdm": True, "seed": 0,
        "max_length": 32, "weight_decay": 0.0,
    }  # fmt: skip
    return LHTSTrainer(
        model=model,
        args=SFTConfig(**(settings | config)),
        train_dataset=Dataset.from_list(data or [{"input_ids": [2, 1], "labels": [-100, 1]}] * 512),
        processing_class=tiny_tokenizer(),
        lhts=lhts,
    )


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 2, None])
def test_training_reaches_the_enumerated_optimum(horizon, tmp_path):
    model = four_token_model()
    table, alpha = table_of(model, [2]), 2.0
    lhts = LHTS(tau=0.5, horizon=horizon, clamp=50.0, kl=0.0, max_new_tokens=LIMIT)
    goal_X = enumerate_texts(
        TabularModel(horizon_conditionals(table, LIMIT, alpha, horizon or LIMIT).log()[None], eos_ids=(1,)), LIMIT, 1.0
    ).q_X
    start_X = enumerate_texts(table, LIMIT, 1.0).q_X
    trainer_for(tmp_path, model, lhts, max_steps=150).train()
    reached_X = enumerate_texts(table_of(model, [2]), LIMIT, 1.0).q_X
    assert total_variation(start_X, goal_X) > 0.1
    assert total_variation(reached_X, goal_X) < 0.03


def test_one_step_moves_towards_sequence_temperature_and_leaves_the_scorer_alone(tmp_path):
    model = four_token_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_for(tmp_path, model, LHTS(tau=0.5, horizon=None, max_new_tokens=LIMIT), max_steps=3)
    trainer.train()
    ids = torch.tensor([[2, 3, 0]])
    with trainer.scoring() as scorer, torch.no_grad():
        assert torch.equal(scorer(input_ids=ids).logits, four_token_model()(input_ids=ids).logits)
    assert any(not torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert {"lhts/clamped", "lhts/weight", "lhts/ess", "lhts/kl", "lhts/log_p"} <= set(trainer.state.log_history[0])


def test_at_tau_one_the_loss_is_plain_likelihood(tmp_path):
    data = [{"prompt": "ab", "completion": "cde<eos>"}, {"prompt": "a", "completion": "h<eos>"}] * 4
    lhts = LHTS(tau=1.0, self_samples=0.0, kl=0.0)
    trainer = trainer_for(
        tmp_path, tiny_model(), lhts, data, max_steps=1, learning_rate=0.0, per_device_train_batch_size=8
    )
    trainer.train()
    model, tokenizer = tiny_model(), tiny_tokenizer()
    total, count = 0.0, 0
    for row in data:
        prompt, completion = tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"]
        logps = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        total -= logps.gather(1, torch.tensor(completion)[:, None]).sum().item()
        count += len(completion)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_accumulation_does_not_change_the_gradient_on_given_texts(tmp_path):
    data = [{"prompt": "ab", "completion": "cde"[: 1 + i % 3] + "<eos>"} for i in range(8)]
    after = []
    for accumulation in (1, 4):
        model = tiny_model()
        trainer_for(
            tmp_path, model, LHTS(tau=0.6, horizon=2, self_samples=0.0), data, max_steps=3, optim="sgd", max_grad_norm=0.0,
            learning_rate=0.05, per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
        ).train()  # fmt: skip
        after.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (after[0] - after[1]).abs().max() < 1e-6


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path):
    lhts = LHTS(tau=0.5, horizon=2, max_new_tokens=LIMIT)
    steady = {
        "per_device_train_batch_size": 16,
        "save_strategy": "steps",
        "save_steps": 2,
        "lr_scheduler_type": "constant",
    }
    whole, first, second = four_token_model(), four_token_model(), four_token_model()
    trainer_for(tmp_path / "a", whole, lhts, max_steps=4, **steady).train()
    trainer_for(tmp_path / "b", first, lhts, max_steps=2, **steady).train()
    resumed = trainer_for(tmp_path / "b", second, lhts, max_steps=4, **steady)
    resumed.train(resume_from_checkpoint=str(tmp_path / "b/checkpoint-2"))
    for mine, theirs in zip(whole.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-7)


def test_with_an_adapter_the_frozen_model_is_the_base(tmp_path):
    peft = pytest.importorskip("peft")
    base = four_token_model()
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=4))
    trainer = trainer_for(
        tmp_path,
        model,
        LHTS(tau=0.5, max_new_tokens=LIMIT),
        max_steps=3,
        per_device_train_batch_size=16,
        learning_rate=0.1,
    )
    trainer.train()
    assert trainer._scorer is None
    with trainer.scoring() as scorer, torch.no_grad():
        ids = torch.tensor([[2, 3, 0]])
        assert torch.allclose(scorer(input_ids=ids).logits, four_token_model()(input_ids=ids).logits, atol=1e-6)
    with torch.no_grad():
        assert not torch.allclose(model(input_ids=ids).logits, four_token_model()(input_ids=ids).logits, atol=1e-3)


@pytest.mark.slow
def test_a_range_of_temperatures_gives_one_model_that_takes_tau(tmp_path):
    model = four_token_model()
    table = table_of(model, [2])
    lhts = LHTS(tau=(0.4, 1.0), horizon=None, max_new_tokens=LIMIT, kl=0.0, clamp=50.0)
    trainer = trainer_for(tmp_path, model, lhts, max_steps=120)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tau_input = load_tau_input(loaded, tmp_path / "model")
    distance = {}
    for tau in (0.4, 1.0):
        tau_input.alpha_B = torch.tensor([1 / tau])
        reached_X = enumerate_texts(table_of(loaded, [2]), LIMIT, 1.0).q_X
        for goal in (0.4, 1.0):
            distance[tau, goal] = total_variation(reached_X, enumerate_texts(table, LIMIT, 1 / goal).target_X)
    assert distance[0.4, 0.4] < 0.5 * distance[0.4, 1.0]
    assert distance[1.0, 1.0] < 0.5 * distance[1.0, 0.4]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tau": 0.0}, "positive"),
        ({"tau": (0.9, 0.5)}, "low, high"),
        ({"horizon": 0}, "horizon"),
        ({"self_samples": 2.0}, "share"),
        ({"kl": -1.0}, "kl"),
        ({"baseline": "mean"}, "choose one of"),
    ],
)
def test_settings_out_of_range_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        LHTS(**settings)
