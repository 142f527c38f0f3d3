"""What is typed as TRL's own scripts take it comes back in the words of these commands."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from configs.command_line.habits import Vocabulary, bare, dashed
from configs.compose import ConfigError
from trainers.command.cli import compose_command, vocabulary
from trainers.run import grpo, likelihood

grpo.register_schema()
likelihood.register_schema()


@pytest.fixture(scope="module")
def known() -> dict[str, Vocabulary]:
    return {name: vocabulary(name) for name in ("train_grpo", "train_sft", "sample")}


def said_of(line: str, known: Vocabulary) -> str:
    words = shlex.split(line)
    return dashed(words, [word for word in words if word.startswith("-")], known) or bare(words, known)


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("--learning_rate 1e-5", "trainer.learning_rate=1e-5"),
        ("--learning_rate=1e-5", "trainer.learning_rate=1e-5"),
        ("--learning-rate 1e-5", "trainer.learning_rate=1e-5"),
        ("learning_rate=1e-5", "trainer.learning_rate=1e-5"),
        ("credit=rloo --beta 0.1 seed=3", "trainer.beta=0.1"),
        ("per_device_train_batch_size=8", "trainer.per_device_train_batch_size=8"),
        ("--model_name_or_path Qwen/Qwen2.5-0.5B", "model=hf model.name=Qwen/Qwen2.5-0.5B"),
        ("model_name_or_path=Qwen/Qwen2.5-0.5B", "model=hf model.name=Qwen/Qwen2.5-0.5B"),
        ("model=Qwen/Qwen2.5-0.5B", "model=hf model.name=Qwen/Qwen2.5-0.5B"),
        ("--dtype bfloat16", "model.dtype=bfloat16"),
        ("--dataset_name trl-lib/tldr", "task=hub task.dataset=trl-lib/tldr"),
        ("--dataset_name my.jsonl", "task=jsonl task.path=my.jsonl"),
        ("task=my.jsonl", "task=jsonl task.path=my.jsonl"),
        ("--use_peft --lora_r 8", "model/peft=lora model.peft.r=8"),
        ("--lora_target_modules q_proj v_proj", "model/peft=lora model.peft.target_modules=[q_proj,v_proj]"),
        ("--reward_funcs accuracy_reward my.py:f", "reward.funcs=[trl.rewards.accuracy_reward,my.py:f]"),
        ("--reward_weights 1 0.5", "reward.weights=[1,0.5]"),
        ("--bf16 --no_gradient_checkpointing", "trainer.bf16=true trainer.gradient_checkpointing=false"),
        ("--output_dir out --seed 3", "run_dir=out seed=3"),
        ("--credit seq_norm --credit/weight seq_mean", "credit=seq_norm credit/weight=seq_mean"),
        ("--trainer.beta 0.1", "trainer.beta=0.1"),
        ("--system_prompt 'Think, then answer'", "\"task.system_prompt='Think, then answer'\""),
    ],
)
def test_the_right_spelling_is_given(known, line, ours):
    assert said_of(line, known["train_grpo"]).endswith(f"Write {ours}")


def test_a_command_that_lacks_the_setting_does_not_suggest_it(known):
    assert "reward" not in said_of("--reward_funcs a.py:f", known["train_sft"]).split("no such option")[1]
    assert said_of("--temperature 0.5", known["sample"]).endswith("Write tau=0.5")
    assert "Did you mean `trainer.learning_rate=...`" in said_of("--learning_rat 1", known["train_grpo"])
    assert "no such option" in said_of("--foo", known["train_grpo"])


def test_right_words_are_left_alone(known):
    for line in ("credit=rloo trainer.beta=0.1", "model=embedded task=jsonl task.path=my.jsonl", "seed=3 show=0"):
        assert said_of(line, known["train_grpo"]) == ""


def test_what_is_suggested_composes(known):
    with pytest.raises(ConfigError, match=r"Write trainer.learning_rate=1e-5 trainer.beta=0.1") as caught:
        compose_command("train_grpo", ["learning_rate=1e-5", "beta=0.1"])
    words = str(caught.value).split("Write ")[1].split()
    assert compose_command("train_grpo", words).config.trainer.beta == 0.1


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train_grpo", "credit=rloo"], ["sweep", "credit=rloo,dr_grpo", "seed=0"]])
def test_on_the_command_line(words, tmp_path):
    command = [sys.executable, "-m", "apportion", *words, "--learning_rate", "1e-5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert "`--learning_rate 1e-5`: settings are written key=value. Write trainer.learning_rate=1e-5" in done.stderr
