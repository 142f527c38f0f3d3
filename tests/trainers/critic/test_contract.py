"""The contract of critics: one name for each, and nothing called on one that the abstract classes do not promise."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from configs.compose import compose_strategy, config_choices
from credit.critic import CriticSpec
from trainers.critic.base import Critic, GroupCritic, StateCritic
from trainers.critic.build import CRITICS, build_critic

ROOT = Path(__file__).resolve().parents[3]
SEAM = ("trainers/grpo.py", "trainers/critic/seam.py", "trainers/seam/kl_reward.py", "trainers/seam/sampler_pass.py")
KINDS = sorted(set(config_choices("credit/critic")) - {"none"})


def test_every_choice_has_a_critic_and_every_critic_a_choice():
    assert sorted(spec.kind for spec in CRITICS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_choice_file_specification_and_critic_have_one_name(kind):
    spec = type(compose_strategy(["credit=value", f"credit/critic={kind}"]).critic)
    critic = getattr(importlib.import_module(f"trainers.critic.{kind}"), f"{kind.capitalize()}Critic")
    assert spec.__name__ == f"{kind.capitalize()}Spec" and spec.kind == kind and CRITICS[spec] is critic


def called_on_critics(path: Path) -> set[str]:
    """Attributes of `critic` and `self.critic` in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name == "critic" and ast.unparse(owner) in ("critic", "self.critic"):
                found.add(node.attr)
    return found


def test_whatever_the_seam_calls_is_in_the_contract():
    promised = {name for each in (StateCritic, GroupCritic) for name in dir(each)} | {"metrics"}
    called = {name: called_on_critics(ROOT / name) for name in SEAM}
    assert {"values", "learn", "score", "catching", "targets", "save"} <= set().union(*called.values())
    assert {path: names - promised for path, names in called.items() if names - promised} == {}


@pytest.mark.parametrize(("base", "missing"), [(StateCritic, "learn"), (GroupCritic, "score"), (Critic, "tensors")])
def test_a_critic_that_leaves_a_method_out_cannot_be_made(base, missing):
    members = {name: None for name in base.__abstractmethods__ if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Unfinished", (base,), members)(None, None, 1.0)


def test_no_critic_adds_a_public_method_that_the_seam_would_have_to_know():
    """Its own `make_trunk` and `coefficient` are between `GradientCritic` and its kinds."""
    promised = set(dir(StateCritic)) | set(dir(GroupCritic)) | {"make_trunk", "coefficient"}
    for critic in CRITICS.values():
        own = {name for name, _ in inspect.getmembers(critic) if not name.startswith("_")}
        assert own <= promised, critic


def test_a_specification_that_nothing_trains_is_refused_with_those_that_are():
    class Odd(CriticSpec):
        pass

    with pytest.raises(ValueError, match=r"Odd, which nothing trains.*HeadSpec"):
        build_critic(None, Odd(), 1.0)
