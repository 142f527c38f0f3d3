"""A critic's files: what a checkpoint must hold to go on from it, and which critic ends up beside the policy."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig

from credit.critic import DecompositionSpec, HeadSpec, SeparateSpec
from support.critics import ADAPTER, DECOMPOSITION, HEAD, RIDGE, fit, learned, value
from support.tiny import tiny_model, tiny_tokenizer
from trainers.critic.base import SPEC
from trainers.critic.build import load_head


def saved(trainer, folder):
    trainer.critic.save(folder)
    trainer.critic.save_state(folder)
    return folder


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (HeadSpec(mlp=4), "shapes"),
        (HeadSpec(running=True), "shapes"),
        (RIDGE, "kind"),
        (DECOMPOSITION, "kind"),
    ],
)
def test_another_critic_in_the_checkpoint_is_named(other, said, tmp_path):
    folder = saved(fit(value(HEAD)), tmp_path)
    with pytest.raises(ValueError, match=f"another critic.*{said}"):
        fit(value(other)).critic.load(folder)


def test_features_drawn_from_another_seed_are_another_critic(tmp_path):
    folder = saved(fit(value(DECOMPOSITION)), tmp_path)
    with pytest.raises(ValueError, match=r"another critic.*seed"):
        fit(value(DecompositionSpec(features=32, seed=1))).critic.load(folder)


def test_a_checkpoint_of_weights_only_says_why_it_cannot_be_resumed(tmp_path):
    trainer = fit(value(HEAD))
    trainer.critic.save(tmp_path)
    with pytest.raises(ValueError, match="save_only_model"):
        trainer.critic.load(tmp_path)


def test_the_best_policy_comes_back_with_the_critic_of_its_step(tmp_path):
    trainer = fit(value(HEAD))
    best = learned(trainer)
    trainer.save_model(str(tmp_path))
    with torch.no_grad():
        for tensor in trainer.critic.tensors.values():
            tensor += 1
    trainer.state.best_model_checkpoint = str(tmp_path)
    trainer._load_best_model()
    assert all(torch.equal(best[name], tensor) for name, tensor in trainer.critic.tensors.items())


def test_every_adapter_of_the_policy_is_saved_and_none_of_the_critic(tmp_path):
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = fit(value(ADAPTER), peft_config=lora)
    trainer.model.add_adapter("second", lora)
    trainer.save_model(str(tmp_path))
    folders = {path.parent.name for path in tmp_path.rglob("adapter_config.json")}
    assert folders == {tmp_path.name, "second"}


def test_the_spec_of_an_adapter_with_modules_of_its_own_can_be_written(tmp_path):
    from configs.compose import compose_strategy

    strategy = compose_strategy(["credit=value", "credit/critic=adapter", "credit.critic.target_modules=[q_proj]"])
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    fit(strategy, peft_config=lora).critic.save(tmp_path)
    assert json.loads((tmp_path / "critic" / SPEC).read_text())["target_modules"] == ["q_proj"]


def test_a_head_is_read_back_from_the_models_folder_or_the_critics(tmp_path):
    trainer = fit(value(HEAD))
    trainer.save_model(str(tmp_path))
    states, seen = torch.randn(1, 2, 16), torch.ones(1, 2).bool()
    for folder in (tmp_path, tmp_path / "critic"):
        assert torch.equal(load_head(folder)(states, seen), trainer.critic.head(states, seen))


def test_a_separate_critic_with_another_tokenizer_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    fit(value(SeparateSpec(model=str(tmp_path))))  # weights alone say nothing of a tokenizer
    tiny_tokenizer().save_pretrained(tmp_path)
    fit(value(SeparateSpec(model=str(tmp_path))))
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace('"a": 3', '"a": 4').replace('"b": 4', '"b": 3'))
    with pytest.raises(ValueError, match="another tokenizer"):
        fit(value(SeparateSpec(model=str(tmp_path))))
    with pytest.raises(ValueError, match="no such folder"):
        fit(value(SeparateSpec(model=str(tmp_path / "nowhere"))))


def test_the_head_of_a_ridge_critic_gives_the_values_it_gave(tmp_path):
    trainer = fit(value(RIDGE))
    trainer.critic.save(tmp_path)
    states_BTD, visible_BT = torch.randn(3, 5, trainer.critic.trunk.width), torch.ones(3, 5).bool()
    values_BT = load_head(tmp_path)(states_BTD, visible_BT)
    assert values_BT.std() > 0 and torch.equal(values_BT, trainer.critic.values(states_BTD, visible_BT))


def test_a_critic_of_tokens_is_said_to_have_no_head_and_why(tmp_path):
    fit(value(DECOMPOSITION)).critic.save(tmp_path)
    with pytest.raises(ValueError, match="decomposition, which reads tokens"):
        load_head(tmp_path)
