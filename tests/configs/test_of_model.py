"""Defaults follow the model, and give way to whatever a user says."""

from __future__ import annotations

import pytest

from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema as register_grpo
from trainers.run.likelihood import register_schema as register_sft

register_grpo()
register_sft()

HF = ["model=hf", "model.name=x"]
YAMLS = {
    "model/mine.yaml": "# mine\ndefaults: [embedded, _self_]\nhidden: 32\n",
    "model/tuned.yaml": "# tuned\ndefaults: [embedded, _self_]\n_trainer_: {grpo: {learning_rate: 0.5}}\n",
    "model/wrong.yaml": "# wrong\ndefaults: [embedded, _self_]\n_trainer_: {grpo: {learnig_rate: 0.5}}\n",
    "model/typed.yaml": "# typed\ndefaults: [embedded, _self_]\n_trainer_: {grpo: {learning_rate: fast}}\n",
    "trainer/own.yaml": "# own\ndefaults: [grpo, _self_]\nlearning_rate: 0.25\n",
    "experiment/trial.yaml": "# @package _global_\n# trial\ntrainer: {learning_rate: 0.125}\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my_configs")
    for name, text in YAMLS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def trainer(verb: str, *words: str, folder=None):
    return compose_command(verb, list(words), [folder] if folder else []).config.trainer


@pytest.mark.parametrize(
    "verb, words, rate, rows",
    [
        ("train_grpo", [], 3e-4, 128),
        ("train_grpo", HF, 1e-6, 8),
        ("train_grpo", [*HF, "model/peft=lora"], 1e-5, 8),
        ("train_grpo", [*HF, "model.peft={r: 4}"], 1e-5, 8),
        ("train_sft", [], 3e-3, 64),
        ("train_sft", HF, 2e-5, 8),
        ("train_sft", [*HF, "model/peft=lora"], 2e-4, 8),
        ("train_lhts", [], 1e-3, 64),
        ("train_lhts", HF, 1e-5, 8),
        ("train_lhts", [*HF, "model/peft=lora"], 1e-4, 8),
        ("train_grpo", ["experiment=doors"], 5e-4, 16),
    ],
)
def test_what_a_model_trains_with_stands_with_it(verb, words, rate, rows):
    node = trainer(verb, *words)
    assert (node.learning_rate, node.per_device_train_batch_size) == (rate, rows)


def test_a_pretrained_model_has_the_values_that_trl_gives_it():
    from trl import GRPOConfig

    node, trl = trainer("train_grpo", *HF), GRPOConfig(output_dir="x", bf16=False)
    for name in ("learning_rate", "per_device_train_batch_size", "num_generations", "num_train_epochs", "max_steps"):
        assert node[name] == getattr(trl, name), name
    assert node.gradient_checkpointing and node.bf16 is None and node.max_completion_length == 512


@pytest.mark.parametrize(
    "words, rate",
    [
        (["model=mine"], 3e-4),
        (["model=tuned"], 0.5),
        (["model=mine", "trainer=own"], 0.25),
        (["model=tuned", "trainer=own"], 0.25),
        (["model=tuned", "experiment=trial"], 0.125),
        (["model=tuned", "trainer=own", "experiment=trial", "trainer.learning_rate=0.75"], 0.75),
    ],
)
def test_a_yaml_of_ones_own_inherits_them_and_the_user_has_the_last_word(words, rate, folder):
    assert trainer("train_grpo", *words, folder=folder).learning_rate == rate


def test_the_steps_of_a_model_give_way_to_epochs():
    assert trainer("train_grpo", "trainer.num_train_epochs=2").max_steps == -1
    assert trainer("train_grpo").max_steps == 80
    assert (trainer("train_grpo", *HF).max_steps, trainer("train_grpo", *HF, "trainer.max_steps=5").max_steps) == (
        -1,
        5,
    )


@pytest.mark.parametrize("model, said", [("wrong", "trainer.learnig_rate"), ("typed", "trainer.learning_rate=fast")])
def test_a_field_that_trl_does_not_have_or_of_another_type_is_refused(model, said, folder):
    with pytest.raises(ValueError, match=f"_trainer_: {said}"):
        trainer("train_grpo", f"model={model}", folder=folder)


def test_nothing_of_it_reaches_the_builder_of_the_model():
    for verb, words in [("train_grpo", []), ("train_grpo", [*HF, "model/peft=lora"]), ("train_sft", [])]:
        config = compose_command(verb, words).config
        assert "_trainer_" not in config.model and "_trainer_" not in (config.model.get("peft") or {})
