"""A setting is written once: where it is declared. The configuration, --help and the docs are made from there."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from configs.compose import CONFIG_DIR, ConfigError, compose_config, config_choices
from configs.fields.declared import OPAQUE, REQUIRED, fields_of
from configs.fields.defaults import COMMANDS, PLACES, fields_of_command, fields_of_place
from configs.fields.help import choices_of, groups_of, help_of, help_of_choices, list_of_choices
from configs.fields.listing import settings_of_choice, settings_of_command, shown
from configs.fields.page import pages
from trainers.command.cli import compose_command, help_text
from trainers.run import grpo, likelihood

grpo.register_schema()
likelihood.register_schema()
VERBS = [name for name in COMMANDS if name != "sweep"]
COMPOSED = Path(__file__).with_name("composed.json")


def nodes_of_yamls():
    """(YAML, place, node) for each node of a shipped YAML whose settings our source declares."""

    def walk(path, place, node):
        for number, entry in enumerate(node) if isinstance(node, list) else ():
            yield from walk(path, f"{place}.{number}", entry)
        if isinstance(node, dict):
            if "_target_" in node or place in PLACES:
                yield path, place, node
            for key, child in node.items():
                yield from walk(path, f"{place}.{key}", child)

    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        group = str(path.parent.relative_to(CONFIG_DIR)).replace("/", ".")
        if group not in (".", "accelerate", "experiment", "trainer"):
            node = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            yield from walk(str(path.relative_to(CONFIG_DIR)), group, node)


NODES = list(nodes_of_yamls())
TARGETS = sorted({node["_target_"] for _, _, node in NODES if "_target_" in node} | {"rewards.guard.guarded"})


# ---- what the source says


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_read_off_the_source_is_what_python_knows(target):
    """The twin: names and defaults as `inspect` has them of the imported object."""
    read = {field.name: field for field in fields_of(target) or ()}
    thing = get_object(target)
    parameters = inspect.signature(thing).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    for parameter in [one for one in named if one.annotation not in ("Tensor", "Task")]:
        field, default = read.pop(parameter.name), parameter.default
        if default is inspect.Parameter.empty:
            assert field.default == REQUIRED
        elif field.default != OPAQUE and not repr(default).startswith("<factory"):
            assert field.default == (list(default) if isinstance(default, tuple) else default)
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        assert not read


def test_a_mapping_of_settings_is_read_off_the_dataclass_that_its_annotation_names():
    from tasks.chain import Noise
    from trainers.model.warm_start import WarmStart

    for target, name, of in [
        ("tasks.chain.chain", "noise", Noise),
        ("trainers.model.embedded.embedded", "pretrain", WarmStart),
    ]:
        inner = next(field for field in fields_of(target) if field.name == name).fields
        assert [field.name for field in inner] == [field.name for field in dataclasses.fields(of)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_of_a_command_has_a_sentence(name):
    assert settings_of_command(name)
    assert all(len(one.text) > 4 for one in settings_of_command(name))


def test_every_setting_of_every_choice_has_a_sentence():
    silent = set()
    for _, place, node in NODES:
        for field in fields_of_place(place, node.get("_target_")) or ():
            silent |= {(node.get("_target_"), one.name) for one in (field.fields or [field]) if not one.text}
    assert not silent


def test_yamls_say_departures_only():
    repeated = [
        f"{path}: {place}.{field.name}={node[field.name]}"
        for path, place, node in NODES
        for field in fields_of_place(place, node.get("_target_")) or ()
        if field.name in node and node[field.name] == field.default and type(node[field.name]) is type(field.default)
        if path != "reward/task.yaml"  # a YAML of rewards names its functions
    ]
    assert not repeated
    for name in VERBS:
        assert set(yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8"))) == {"defaults"}


# ---- the composed configuration


def leaves(node, place=""):
    if isinstance(node, list) and any(isinstance(entry, dict) for entry in node):
        node = dict(enumerate(node))
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from leaves(child, f"{place}.{key}" if place else str(key))
    else:
        yield place, node


@pytest.mark.parametrize("words", json.loads(COMPOSED.read_text(encoding="utf-8")))
def test_a_command_composes_to_the_values_it_always_had(words):
    """composed.json: what each command composed to when its YAMLs still wrote every default out, `trainer` left out."""
    verb, *overrides = words.split()
    plain = OmegaConf.to_container(compose_config(verb, overrides), throw_on_missing=False)
    now = dict(leaves(plain))
    for place, value in json.loads(COMPOSED.read_text(encoding="utf-8"))[words].items():
        assert (now[place], type(now[place])) == (value, type(value)), place


@pytest.mark.parametrize("critic", config_choices("credit/critic"))
def test_members_have_their_own_defaults_whatever_was_chosen_before(critic):
    node = compose_config("strategy", ["credit=value", f"credit/critic={critic}"]).credit.critic
    target = node.get("_target_") if node else None
    expected = {field.name: field.default for field in fields_of(target) or ()} if target else {}
    assert {key: value for key, value in (node or {}).items() if key != "_target_"} == expected


# ---- names and types

CODE = """
from dataclasses import dataclass, field
from credit.critic import HeadSpec

@dataclass
class OwnSpec(HeadSpec):
    own: int = 3
    extra: list = field(default_factory=lambda: [1, 2])
    made: int = field(init=False, default=0)
    bare: int = field(default=4, repr=False)

def scaled(rewards_B, scale=3.0, eps=9.0):
    return rewards_B * scale + eps
"""


def test_settings_of_ones_own_function_are_set_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "my_scaling.py").write_text(CODE)
    folder = tmp_path / "my_configs" / "credit" / "baseline"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("# mine\n_target_: my_scaling.scaled\n")
    monkeypatch.chdir(tmp_path)
    words = ["credit/baseline=own", "credit.baseline.scale=5"]
    config = compose_config("strategy", words, ["my_configs"])
    assert config.credit.baseline == {"_target_": "my_scaling.scaled", "scale": 5}
    with pytest.raises(
        ConfigError, match=r"`credit\.baseline\.scal` is no setting. Did you mean `credit\.baseline\.scale`"
    ):
        compose_config("strategy", ["credit/baseline=own", "credit.baseline.scal=5"], ["my_configs"])
    own = {field.name: field.default for field in fields_of("my_scaling.OwnSpec") or ()}
    assert list(own)[-3:] == ["own", "extra", "bare"] and own["extra"] == [1, 2] and own["bare"] == 4
    assert own["learning_rate"] == 1e-3  # of the class of ours that it builds on


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("reward.guard.workres=1", "`reward.guard.workers`"),
        ("+reward.guard.workres=1", "`reward.guard.workers`"),
        ("reward.guard.workers=two", "reward.guard.workers=two: must be a whole number"),
        ("record.evry=3", "`record.every`"),
        ("+record.evry=3", "`record.every`"),
        ("record.every=often", "record.every=often: must be a whole number"),
        ("task.noise.p_stp=1", "`task.noise.p_step`"),
        ("task.noise.p_step=high", "task.noise.p_step=high: must be a number"),
        ("model.pretrain.stps=3", "`model.pretrain.steps`"),
        ("credit=value credit.critic.mpl=3", "`credit.critic.mlp`"),
        ("credit=value credit.critic.mlp=wide", "credit.critic.mlp=wide: must be a whole number"),
        ("credit=value credit.critic.clip_range=on", "credit.critic.clip_range=on: must be a number or null"),
        ("credit.critic.mlp=3", "credit/critic="),
        ("credit=value credit.spread.lamda_=1", "`credit.spread.lambda_`"),
        ("credit.unit_mas=true", "`credit.unit_mass`"),
        ("reward=regex reward.funcs.0.patern=a", "`reward.funcs.0.pattern`"),
        ("task.seed.x=1", "`task.seed.x` is no setting"),
        ("taks.seed=1", "Did you mean `task`"),
        ("chat_template_kwargs.x=1", "Did you mean `trainer.chat_template_kwargs`"),
        ("~seed", "cannot be taken away"),
        ("~record.every", "cannot be taken away"),
        ("~task.seed", "nothing to take away"),
        ("task=jsonl task.path=3", "task.path=3: must be a text"),
        ("reward.guard=3", "reward.guard=3: give reward.guard.enabled="),
        ("credit.critic={mlp:3}", "`credit.critic.mlp` is no setting"),
        ("credit.name=null", "credit.name=null: must be a text"),
        ("examples=3", "It belongs to train_lhts.py, train_sft.py"),
        ("jobs=2", "It belongs to sweep.py"),
    ],
)
def test_a_wrong_name_or_type_is_told_with_what_is_right(words, said):
    with pytest.raises(ConfigError) as error:
        compose_command("train_grpo", words.split())
    assert said in str(error.value)


@pytest.mark.parametrize("verb", VERBS)
def test_values_that_are_meant_pass(verb):
    assert compose_command(verb, [] if verb in ("sample", "score") else ["seed=7"]).config.get("seed", 0) in (0, 7)
    if verb == "train_grpo":
        compose_command(verb, ["reward.guard=null", "model.pretrain=null", "task.noise=null"])
        compose_command(verb, ["credit=value", "credit.critic={mlp: 3}", "reward.guard={timeout: 3}"])


def test_settings_that_no_yaml_names_are_set_without_a_plus():
    words = ["credit=value", "credit.critic.mlp=16", "credit.spread.lambda_=0.9", "reward.guard.workers=1", "seed=3"]
    config = compose_command("train_grpo", [*words, "credit.requires.beta='>= 0'", "model.pretrain.steps=0"]).config
    assert (config.credit.critic.mlp, config.credit.spread.lambda_, config.reward.guard.workers) == (16, 0.9, 1)
    assert config.seed == 3 and config.credit.requires == {"beta": ">= 0"} and config.model.pretrain.steps == 0
    assert config.credit.critic.learning_rate == 1e-3 and config.reward.guard.timeout == 120


# ---- what is made from them


def test_the_pages_are_as_the_source_says():
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"python -m configs.fields.page writes {path.name}"


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_every_setting_once_with_its_default_and_its_sentence(verb):
    text = " ".join(help_text(verb).split())
    wanted = {(one.key, one.text, shown(one.default)) for one in settings_of_command(verb)}
    for group in groups_of(verb):
        for choice in choices_of(verb, group):
            wanted |= {(one.key, one.text, "") for one in settings_of_choice(group, choice)}
    if verb == "loop":  # see below
        wanted = {one for one in wanted if not one[0].startswith(("reward.guard", "model.peft", "model.merge"))}
    assert len(wanted) > 20
    for key, sentence, default in wanted:
        line = rf"(?<!\S){re.escape(f'{key}={default}')}\S*(?: \([^()]*\))* {re.escape(sentence)}"
        assert len(re.findall(line, text)) == 1, key


def test_help_shows_no_list_of_hydras_and_no_choice_that_the_command_refuses():
    for verb in VERBS:
        text = help_text(verb)
        assert "defaults:" not in text and "_self_" not in text and "experiment: null" not in text
    assert "lhts " not in help_text("train_sft").split("trainer=")[1].split("Settings")[0]
    assert "length_bias" not in help_text("train_grpo") and "doors" in choices_of("train_grpo", "experiment")
    assert not choices_of("train_lhts", "experiment")


def test_the_loop_shows_nothing_that_it_refuses():
    text = help_text("loop")
    assert "reward.guard" not in text and "model.peft" not in text and "--dry-run" not in text
    refused = {"judge", "own_likelihood", "adapter", "separate"}
    shown = {choice for group in groups_of("loop") for choice in choices_of("loop", group)}
    there = {choice for group in ("reward", "credit/critic") for choice in choices_of("train_grpo", group)}
    assert refused <= there and not refused & shown and {"head", "ridge", "math"} <= shown


def test_a_strategy_alone_is_helped_with_as_the_lab_needs_it():
    assert "credit.spread.lambda_=1.0" in help_of_choices("strategy", ["worlds=tiny", "credit=value,rloo"])
    assert help_of_choices("strategy", ["worlds=tiny"]) == "" and "  credit/critic=" in list_of_choices("strategy")
    with pytest.raises(ConfigError, match="Did you mean `rloo`"):
        help_of_choices("strategy", ["credit=rlo"])


def test_help_of_one_choice_shows_it_alone():
    text = help_of("train_grpo", "", ["task=jsonl", "credit=value"])
    assert "task.path=..." in text and "task.format_weight=0.2" in text
    assert "credit/critic=head" in text and "credit.critic.detach=true" in text  # what the strategy is made of
    assert "credit/critic=ridge" not in text and " model." not in text
    with pytest.raises(ConfigError, match="Did you mean `jsonl`"):
        help_of("train_grpo", "", ["task=jsnl"])


def test_a_setting_that_differs_between_choices_has_the_default_of_each():
    text = help_text("train_grpo")
    assert "credit.critic.learning_rate=0.0001 (head: 0.001)" in text
    assert "reward.guard.timeout=120.0 (judge: 300)" in text


def test_sweeps_know_their_settings_from_the_same_place():
    from compare.sweep.command import help_text as help_of_sweep
    from compare.sweep.command import parse

    text = help_of_sweep()
    assert all(f"{one.key}={shown(one.default)}" in text for one in settings_of_command("sweep"))
    assert parse(["credit=uniform,value", "launch.args=[a]"]).settings.launch.program == ["accelerate", "launch"]
    assert {field.name for field in fields_of_command("sweep")} >= {"jobs", "launch", "report"}
    for word in ("overwrite=no", "jobs=two", "launch.args=2", "report=3", "name=7"):  # a text is true to Python
        with pytest.raises(ValueError, match=re.escape(word)):
            parse(["credit=uniform", word])
    assert parse(["credit=uniform", "report=false"]).settings.report is False
