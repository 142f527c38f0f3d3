"""Members of a strategy, as YAMLs and command lines name them: whose settings are whose, and what messages call them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import arange

from configs.compose import ConfigError, compose_strategy, named_strategy
from credit import baseline, spread, weight

CODE = """
def scaled(rewards_B, scale=3.0, eps=9.0):
    return rewards_B * scale + eps

def bare(rewards_B):
    return rewards_B

def late(advantages_B, mask_BT, power=1.0):
    return advantages_B[:, None] * (mask_BT.cumsum(1) / mask_BT.shape[1]) ** power

def by_length(mask_BT, lengths_B):
    return mask_BT / lengths_B[:, None]
"""
YAMLS = {
    "credit/child.yaml": "defaults: [uniform, _self_]\nbaseline: {_target_: my_members.scaled}\n",
    "credit/grandchild.yaml": "defaults: [child, _self_]\nbaseline: {_target_: my_members.bare}\n"
    "spread: {_target_: my_members.late, power: 2.0}\n",
    "credit/same.yaml": "defaults: [uniform, _self_]\nname: Same\nbaseline: {_target_: credit.baseline.group_zscore}\n",
    "credit/wrong.yaml": "defaults: [uniform, _self_]\nbaseline: {_target_: my_members.bare, eps: 1e-4}\n",
    "credit/critical.yaml": "defaults: [value, _self_]\ncritic: {_target_: credit.critic.RidgeSpec, ridge: 0.5}\n",
    "credit/baseline/own.yaml": "_target_: my_members.scaled\nscale: 5.0\n",
    "credit/baseline/heir.yaml": "defaults: [group_zscore, _self_]\n_target_: my_members.scaled\n",
    "credit/weight/own.yaml": "_target_: my_members.by_length\n",
    "weight/own.yaml": "defaults: [length_power, _self_]\n_target_: my_members.by_length\n",
}


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    (tmp_path / "my_members.py").write_text(CODE)
    for name, text in YAMLS.items():
        path = tmp_path / "my_configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.stem}\n{text}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "my_configs"


def bound(member) -> dict:
    return getattr(member, "keywords", {})


# ---- whose settings


@pytest.mark.parametrize(
    ("overrides", "keywords"),
    [
        (["credit=child"], {}),
        (["credit=child", "credit.baseline.eps=2"], {"eps": 2}),
        (["credit=child", "+credit.baseline.scale=2"], {"scale": 2}),
        (["credit=grandchild"], {}),
        (["credit=same"], {"eps": 1e-4}),
        (["credit=uniform"], {"eps": 1e-4}),
        (["credit=uniform", "credit/baseline=own"], {"scale": 5.0}),
        (["credit=uniform", "credit/baseline=heir"], {}),
        (["credit=child", "credit/baseline=own"], {"scale": 5.0}),
        (["credit=uniform", "credit.baseline._target_=my_members.scaled"], {}),
        (["credit=uniform", "credit.baseline._target_=my_members.scaled", "+credit.baseline.scale=4"], {"scale": 4}),
    ],
)
def test_a_new_target_starts_from_its_own_defaults(overrides, keywords, configs):
    assert bound(compose_strategy(overrides, [configs]).baseline) == keywords


def test_the_default_of_the_users_function_is_what_runs(configs):
    strategy = compose_strategy(["credit=child"], [configs])
    assert strategy.baseline(rewards_B=arange(2.0)).tolist() == [9.0, 12.0]


def test_a_critic_of_another_class_starts_from_its_own_defaults(configs):
    critic = compose_strategy(["credit=critical"], [configs]).critic
    assert (type(critic).__name__, critic.ridge, critic.forgetting) == ("RidgeSpec", 0.5, 0.95)  # type: ignore[union-attr]


def test_a_member_chosen_on_the_command_line_replaces_the_one_that_a_yaml_spells_out(configs):
    chosen = compose_strategy(["credit=grandchild", "credit/spread=broadcast"], [configs])
    assert chosen.spread is spread.broadcast and bound(chosen.baseline) == {} and chosen.name == "grandchild"
    chosen = compose_strategy(["credit=grandchild", "credit/baseline=group_mean"], [configs])
    assert chosen.baseline is baseline.group_mean and bound(chosen.spread) == {"power": 2.0}
    assert compose_strategy(["credit=critical", "credit/critic=none"], [configs]).critic is None


def test_what_a_yaml_sets_of_a_chosen_member_stays(configs):
    for critic in ("head", "ridge", "decomposition"):
        assert compose_strategy(["credit=value_prompt", f"credit/critic={critic}"]).critic.at == "prompt"  # type: ignore[union-attr]


def test_weights_of_likelihood_training_start_from_their_own_defaults_too(configs):
    from trainers.command.cli import compose_command
    from trainers.command.prepare import build_weight
    from trainers.run.likelihood import register_schema

    register_schema()
    config = compose_command("train_sft", ["weight=own"], [str(configs)]).config
    assert set(config.weight) == {"_target_"} and build_weight(config.weight, "own").name == "own"


# ---- names


def test_a_yaml_without_a_name_is_called_by_its_file(configs):
    names = {name: compose_strategy([f"credit={name}"], [configs]).name for name in ("child", "grandchild", "same")}
    assert names == {"child": "child", "grandchild": "grandchild", "same": "Same"}
    assert compose_strategy(["credit=child", "credit.name=given"], [configs]).name == "given"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["credit=wrong"], "credit.baseline.eps: `my_members.bare` takes no 'eps'. It takes rewards_B.*'wrong'"),
        (
            ["credit=uniform", "+credit.baseline.ep=1"],
            "credit.baseline.ep: .*group_zscore.*Did you mean `eps`.*'uniform'",
        ),
        (["credit=uniform", "credit.baseline.eps=abc"], "credit.baseline.eps=abc: .*takes a number here, as 0.0001"),
        (["credit=value", "+credit.critic.foo=1"], "credit.critic.foo: `credit.critic.HeadSpec` takes no"),
        (["credit=value", "+credit.spread.lambd=1"], "credit.spread.lambd: .*Did you mean `lambda_`"),
        (["credit=uniform", "+credit.unitmass=true"], "credit.unitmass: .*Did you mean `unit_mass`"),
        (["credit=uniform", "credit.weight=seq_mean"], "credit/weight=seq_mean .with a slash"),
        (["credit=uniform", "~credit._target_"], "credit must name a strategy"),
        (["~credit"], "credit must name a strategy"),
        (["credit=null"], "credit=null: must name a choice"),
        (["credit="], "credit=: must name a choice"),
    ],
)
def test_messages_name_the_axis_the_key_and_the_strategy(overrides, said, configs):
    with pytest.raises(ConfigError, match=said) as caught:
        compose_strategy(overrides, [configs])
    assert "_DeferredTarget" not in str(caught.value)


def test_members_are_ordinary_functions_and_partials(configs):
    strategy = compose_strategy(["credit=grandchild"], [configs])
    assert "_DeferredTarget" not in repr(strategy) and "late" in repr(strategy.spread)


# ---- in Python


def test_a_strategy_of_ones_own_is_found_by_name_and_by_file(configs):
    assert named_strategy("child credit.baseline.eps=1", [configs]).name == "child"
    by_file = named_strategy(f"{configs}/credit/grandchild.yaml credit/weight=seq_mean")
    assert by_file.name == "grandchild" and by_file.weight is weight.seq_mean
    assert named_strategy("my_configs/credit/child.yaml").name == "child"
    with pytest.raises(ConfigError, match=r"no such choice.*config_dirs=\[\.\.\.\], or the path"):
        named_strategy("child")
    for wrong in ("my_configs/credit/nosuch.yaml", "my_members.yaml"):
        with pytest.raises(ConfigError, match=r"\.yaml file in a folder `credit`"):
            named_strategy(wrong)


def test_the_trainers_see_a_folder_of_the_users_own(configs):
    from trainers.grpo import strategy_of
    from trainers.sft import sft_strategy

    assert strategy_of("child", [configs]).name == "child"  # type: ignore[union-attr]
    assert sft_strategy("own", [configs]).weight.__name__ == "by_length"
