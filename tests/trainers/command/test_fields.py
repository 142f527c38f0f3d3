"""Every field of TRL's configs: it reaches TRL, or the command says what becomes of it."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest
from trl import GRPOConfig, SFTConfig

from configs.command_line.layers import Layers
from configs.command_line.schema import schema_of
from configs.compose import ConfigError
from support.runs import ROOT, SMALL
from trainers.command.build import Rewards, build_args, grpo_args
from trainers.command.cli import compose_command
from trainers.command.field_table import RULES
from trainers.command.fields import table, verdict_of
from trainers.run import grpo as run
from trainers.run import likelihood as run_sft
from trainers.run.files import read_metrics

run.register_schema()
run_sft.register_schema()

CONFIGS = {"train_grpo": GRPOConfig, "train_sft": SFTConfig, "train_lhts": SFTConfig}
# Values that these fields understand; every other one gets some value of its type.
VALUES = {
    "optim": "sgd",
    "lr_scheduler_type": "linear",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "hub_strategy": "end",
    "log_level": "info",
    "log_level_replica": "info",
    "loss_type": "dapo",
    "truncation_mode": "keep_end",
    "packing_strategy": "wrapped",
    "report_to": "all",
    "learning_rate": 1e-7,
    "num_generations": 4,
    "steps_per_generation": 3,
    "generation_batch_size": 256,
    "warmup_steps": 7,
    "debug": "underflow_overflow",
    "include_num_input_tokens_seen": "all",
    "top_entropy_quantile": 0.5,
    "per_device_train_batch_size": 64,
    "num_generations_eval": 2,
    "accelerator_config": {"split_batches": True},
    "reward_weights": [2.0],
}
# Fields of other releases than the installed one.
ELSEWHERE = {"log_multimodal", "trackio_bucket_id", "trackio_static_space_id", "project", "enable_jit_checkpoint"}


def fields(verb: str) -> dict[str, typing.Any]:
    return {entry.name: entry for entry in dataclasses.fields(schema_of(CONFIGS[verb]))}


def another(name: str, entry: dataclasses.Field) -> typing.Any:
    """A value that is not the field's default."""
    default = entry.default_factory()  # type: ignore[misc]
    if name in VALUES:
        return VALUES[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, (int, float)):
        return default + 1 if isinstance(default, int) else default / 2 + 0.01
    kinds = [kind for kind in (typing.get_args(entry.type) or (entry.type,)) if kind in (bool, int, float, str)]
    return {bool: True, int: 3, float: 0.25, str: "x"}[kinds[0]] if kinds else {"a": 1}


def args_of(verb: str, config):
    """As the verb makes them."""
    if verb == "train_grpo":
        return grpo_args(config, GRPOConfig, Path("unused"), Rewards([len], [1.0]), has_evaluation=True)
    return build_args(config, SFTConfig, output_dir="unused", seed=config.seed, disable_tqdm=True)


@pytest.mark.parametrize("verb", CONFIGS)
def test_every_field_reaches_trl_or_is_refused_with_what_to_set_instead(verb):
    lost = []
    for name, entry in fields(verb).items():
        config = compose_once(verb)
        value = another(name, entry)
        config.trainer[name] = value
        if verdict_of(verb, config, Layers(keys=(f"trainer.{name}",))).refused:
            continue
        try:
            args = args_of(verb, config)
        except ConfigError:
            continue  # TRL has read it, and does not like it
        got = getattr(args, name)
        if getattr(got, "value", got) != value and not _is_made_of(got, value):
            lost.append(f"{name}={value!r} became {got!r}")
    assert not lost


def _is_made_of(got, value) -> bool:
    """An object or a list that transformers made of the value."""
    if isinstance(got, list):
        return bool(got) or value == "all"
    return value != {} and not isinstance(got, (bool, int, float, str, type(None)))


_COMPOSED: dict = {}


def compose_once(verb: str):
    import copy

    if verb not in _COMPOSED:
        _COMPOSED[verb] = compose_command(verb, []).config
    return copy.deepcopy(_COMPOSED[verb])


def test_the_table_names_fields_that_exist_and_says_something_of_each():
    known = {entry.name for cls in (GRPOConfig, SFTConfig) for entry in dataclasses.fields(cls)}
    for rule in RULES:
        assert rule.fields and set(rule.verbs) <= set(CONFIGS) and len(rule.text) > 15
        assert set(rule.fields.split()) <= known | ELSEWHERE, rule.fields


def test_the_page_has_the_table_as_it_is():
    page = (ROOT / "docs" / "running" / "settings.md").read_text(encoding="utf-8")
    assert table() in page, "python -m trainers.command.fields prints the table of docs/running/settings.md"


def test_shipped_configurations_are_judged_without_a_word():
    for verb in CONFIGS:
        assert compose_command(verb, []).said == ()
    assert compose_command("train_grpo", ["experiment=doors"]).said == ()
    assert compose_command("train_sft", ["experiment=length_bias"]).said == ()


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["trainer.output_dir=x"], "run_dir="),
        (["trainer.seed=7"], "Set seed="),
        (["trainer.seed=42"], "Set seed="),  # TRL's default, and not the run's
        (["trainer.resume_from_checkpoint=x"], "resume=true"),
        (["trainer.disable_tqdm=false"], "Leave it out"),
        (["trainer.do_predict=true"], "sample.py"),
        (["trainer.trust_remote_code=true"], "model.trust_remote_code=true"),
        (["trainer.model_init_kwargs={dtype: bfloat16}"], "model.dtype"),
        (["trainer.push_to_hub=true"], "trainer.hub_model_id"),
        (["trainer.ignore_data_skip=true"], "first prompts again"),
        (["trainer.save_strategy=best"], "trainer.metric_for_best_model"),
        (["+trainer.foo=1"], "trainer.foo is no field of"),
        (["++trainer.learnig_rate=1"], "Did you mean `trainer.learning_rate`"),
        (["~trainer.max_steps"], "trainer.max_steps=..."),
        (["trainer.max_steps=3", "trainer.num_train_epochs=2"], "Give one of them"),
    ],
)
def test_what_the_run_decides_is_refused_with_what_to_set(overrides, remedy):
    with pytest.raises(ConfigError) as caught:
        compose_command("train_grpo", overrides)
    assert remedy in str(caught.value)


def test_what_the_run_decides_is_refused_by_the_other_commands_too():
    for verb in ("train_sft", "train_lhts"):
        for name, value in {"output_dir": "x", "seed": 7, "do_eval": True, "resume_from_checkpoint": "x"}.items():
            config = compose_once(verb)
            config.trainer[name] = value
            assert verdict_of(verb, config, Layers(keys=(f"trainer.{name}",))).refused
            assert not verdict_of(verb, config, Layers()).refused  # what the user does not set is not held against him


@pytest.mark.parametrize(
    ("verb", "overrides", "remedy"),
    [
        ("train_grpo", ["trainer.data_seed=3"], "Set seed="),
        ("train_grpo", ["trainer.remove_unused_columns=true"], "rewards read"),
        ("train_grpo", ["trainer.label_smoothing_factor=0.1"], "no labels"),
        ("train_grpo", ["trainer.train_sampling_strategy=sequential"], "trainer.shuffle_dataset=false"),
        ("train_grpo", ["trainer.use_transformers_continuous_batching=true"], "trainer.eval_on_start=false"),
        ("train_grpo", ["trainer.sync_ref_model=true"], "Set trainer.beta"),
        ("train_grpo", ["trainer.reward_weights=[2]", "reward.weights=[3]"], "Give one of them"),
        ("train_sft", ["trainer.dataset_text_field=text2"], "task.text_column"),
        ("train_lhts", ["trainer.packing=true"], "not joined"),
        ("train_lhts", ["trainer.eval_on_start=true"], "probe="),
    ],
)
def test_what_one_command_decides_is_refused_there(verb, overrides, remedy):
    with pytest.raises(ConfigError, match=remedy):
        compose_command(verb, overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.loss_type=dapo"], "the denominators are the strategy's"),
        (["trainer.epsilon_high=0.28"], "the ratio is 1"),
        (["trainer.vllm_mode=server"], "without trainer.use_vllm=true"),
        (["trainer.eval_steps=5"], "without trainer.eval_strategy=steps"),
        (["trainer.hub_model_id=me/it"], "without trainer.push_to_hub=true"),
        (["trainer.run_name=mine"], "report_to"),
        (["trainer.sapo_temperature_neg=2"], "loss_type=sapo"),
        (["trainer.save_only_model=true"], "cannot be resumed"),
        (["trainer.adam_beta1=0.8", "trainer.optim=sgd"], "trainer.optim"),
    ],
)
def test_what_does_nothing_beside_the_other_settings_is_said_in_a_sentence(overrides, said):
    (sentence,) = compose_command("train_grpo", overrides).said
    assert sentence.startswith(overrides[0].split("=")[0]) and said in sentence


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.seed=5", "seed=5"],
        ["trainer.do_train=true", "trainer.disable_tqdm=true", "trainer.trust_remote_code=false"],
        ["trainer.epsilon_high=0.28", "trainer.num_iterations=2"],
        ["trainer.epsilon_high=0.28", "trainer.steps_per_generation=4"],
        ["trainer.eval_steps=5", "trainer.eval_strategy=steps"],
        ["trainer.run_name=mine", "trainer.report_to=[wandb]"],
        ["trainer.hub_model_id=me/it", "trainer.push_to_hub=true"],
        ["trainer.loss_type=cispo", "trainer.adam_beta1=0.8", "trainer.save_strategy=no"],
    ],
)
def test_what_counts_or_agrees_with_the_run_passes_without_a_word(overrides):
    assert compose_command("train_grpo", overrides).said == ()


# ---- steps and epochs


def limits(*overrides, configs=()):
    command = compose_command("train_grpo", list(overrides), [str(folder) for folder in configs])
    return command.config.trainer.max_steps, command.config.trainer.num_train_epochs, command.said


@pytest.mark.parametrize(
    ("setting", "demand"),
    [
        ("num_iterations=0", "at least 1"),
        ("gradient_accumulation_steps=0", "at least 1"),
        ("steps_per_generation=0", "at least 1"),
        ("num_generations=null", "at least 1"),
        ("max_completion_length=0", "at least 1"),
        ("learning_rate=nan", "finite"),
        ("max_grad_norm=nan", "a number"),
        ("beta=inf", "finite"),
        ("temperature=0", "above 0"),
    ],
)
def test_a_number_that_trains_nothing_or_nan_is_refused_when_composed(setting, demand):
    with pytest.raises(ConfigError, match=demand) as refused:
        compose_command("train_grpo", [f"trainer.{setting}"])
    assert f"trainer.{setting.split('=')[0]}=" in str(refused.value)


@pytest.mark.parametrize("setting", ["max_grad_norm=inf", "steps_per_generation=null", "max_completion_length=null"])
def test_what_switches_a_limit_off_is_taken(setting):
    compose_command("train_grpo", [f"trainer.{setting}"])


def test_epochs_count_when_they_are_what_the_user_gives():
    assert limits() == (80, 3.0, ())
    assert limits("trainer.num_train_epochs=2") == (-1, 2.0, ())
    assert limits("trainer.num_train_epochs=3") == (-1, 3.0, ())  # TRL's default, said aloud
    assert limits("experiment=doors", "trainer.num_train_epochs=2") == (-1, 2.0, ())
    assert limits("trainer.num_train_epochs=2", "trainer.max_steps=-1") == (-1, 2.0, ())
    assert limits("trainer.max_steps=7") == (7, 3.0, ())


def test_of_steps_and_epochs_the_one_that_is_said_later_counts(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text("# two epochs\ndefaults: [grpo, _self_]\nnum_train_epochs: 2\n")
    (tmp_path / "trainer" / "both.yaml").write_text(
        "# both\ndefaults: [mine, _self_]\nmax_steps: 5\nnum_train_epochs: 2\n"
    )
    assert limits("trainer=mine", configs=[tmp_path]) == (-1, 2.0, ())
    steps, _, said = limits("trainer=mine", "trainer.max_steps=9", configs=[tmp_path])
    assert steps == 9 and "the steps of the command line count" in said[0]
    with pytest.raises(ConfigError, match="Give one of them"):
        limits("trainer=both", configs=[tmp_path])


def test_a_run_by_epochs_ends_after_them(server, tmp_path):
    done = server.train(
        *SMALL,
        "task.n_train=6",
        "trainer.num_train_epochs=2",
        "trainer.loss_type=dapo",
        "record.every=0",
        f"run_dir={tmp_path / 'run'}",
    )
    steps = [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "reward" in row]
    assert steps == [1, 2, 3, 4, 5, 6]  # 2 prompts a step
    assert done.stderr.count("trainer.loss_type=dapo: chooses the surrogate") == 1


# ---- a YAML of the user's own


def test_a_yaml_of_the_users_own_is_held_to_the_table_too(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text("# mine\ndefaults: [grpo, _self_]\noutput_dir: elsewhere\n")
    (tmp_path / "trainer" / "bare.yaml").write_text("# bare\nlearning_rate: 1.0e-5\n")
    with pytest.raises(ConfigError, match="run_dir="):
        compose_command("train_grpo", ["trainer=mine"], [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"defaults: \[grpo, _self_\]"):
        compose_command("train_grpo", ["trainer=bare"], [str(tmp_path)])


def test_what_a_strategy_requires_of_the_trainer_is_checked_when_composed(tmp_path):
    (tmp_path / "credit").mkdir()
    text = "# clip-higher\ndefaults: [uniform, _self_]\nrequires: {epsilon_high: '>= 0.25', mask_truncated_completions: true}\n"
    (tmp_path / "credit" / "higher.yaml").write_text(text)
    asked = ["credit=higher", "trainer.num_iterations=2", "trainer.mask_truncated_completions=true"]
    with pytest.raises(
        ConfigError, match=r"'higher' requires epsilon_high >= 0.25, and it is null. Set trainer.epsilon_high"
    ):
        compose_command("train_grpo", asked, [str(tmp_path)])
    assert compose_command("train_grpo", [*asked, "trainer.epsilon_high=0.28"], [str(tmp_path)]).said == ()
