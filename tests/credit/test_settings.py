"""Settings of strategies and critics: what a command line can get wrong is said before anything starts."""

from __future__ import annotations

import pytest

from configs.compose import ConfigError, compose_strategy
from credit import Strategy
from credit.baseline import none
from credit.critic import AdapterSpec, DecompositionSpec, GradientSpec, HeadSpec, RidgeSpec
from credit.spread import Value, ValueWhitened
from credit.weight import constant


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: HeadSpec(learning_rate="abc"), "critic.learning_rate must be a number"),  # type: ignore[arg-type]
        (lambda: HeadSpec(learning_rate=float("nan")), "critic.learning_rate must be a number"),
        (lambda: HeadSpec(mlp=2.5), "critic.mlp must be a whole number"),  # type: ignore[arg-type]
        (lambda: HeadSpec(detach="maybe"), "critic.detach must be true or false"),  # type: ignore[arg-type]
        (lambda: HeadSpec(coefficient=-1.0), "critic.coefficient"),
        (lambda: GradientSpec(init_std=-1.0), "init_std"),
        (lambda: AdapterSpec(rank=0), "critic.rank"),
        (lambda: AdapterSpec(rank=2.5), "critic.rank must be a whole number"),  # type: ignore[arg-type]
        (lambda: RidgeSpec(ridge="much"), "critic.ridge must be a number"),  # type: ignore[arg-type]
        (lambda: DecompositionSpec(features=2.5), "critic.features must be a whole number"),  # type: ignore[arg-type]
        (lambda: Value(lambda_="abc"), "spread.lambda_ must be a number"),  # type: ignore[arg-type]
        (lambda: ValueWhitened(eps=-1.0), "eps"),
        (lambda: Strategy(constant, none, critic="head"), "credit/critic=head"),  # type: ignore[arg-type]
        (
            lambda: Strategy(constant, none, critic=HeadSpec(), critic_warmup_steps=1.5),  # type: ignore[arg-type]
            "critic_warmup_steps must be a whole number",
        ),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_whole_numbers_are_numbers_and_null_is_kept():
    assert HeadSpec(learning_rate=1, clip_range=None).learning_rate == 1 and Value(lambda_=1).adaptive_alpha is None


def test_one_value_for_each_prompt_goes_with_every_critic():
    for critic in ("head", "ridge", "decomposition", "adapter", "separate"):
        assert compose_strategy(["credit=value_prompt", f"credit/critic={critic}"]).critic.at == "prompt"  # type: ignore[union-attr]
    assert compose_strategy(["credit=value_prompt", "credit/critic=none"]).critic is None


def test_a_critic_named_with_a_dot_is_told_of_the_slash():
    with pytest.raises(ConfigError, match="credit/critic=head"):
        compose_strategy(["credit=value", "credit.critic=head"])


def test_modules_from_a_command_line_become_a_plain_list():
    strategy = compose_strategy(["credit=value", "credit/critic=adapter", "credit.critic.target_modules=[q_proj]"])
    assert type(strategy.critic.target_modules) is list  # type: ignore[union-attr]
