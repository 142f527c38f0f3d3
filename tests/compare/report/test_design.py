"""Factors of arms, read from what they were told."""

from __future__ import annotations

import pytest

from compare.report.design import design_of, level_text


def told(**more: str) -> dict[str, str]:
    return {key.replace("__", "."): value for key, value in more.items()}


def grid() -> dict[str, dict[str, str]]:
    """Two strategies, which bring settings of their own, at three rates; batches follow from the accumulation."""
    weights = {"uniform": "credit.weight.token_mean", "dr_grpo": "credit.weight.constant"}
    return {
        f"{name} {rate}": told(credit__name=name, credit__weight___target_=weight, trainer__learning_rate=rate)
        for name, weight in weights.items()
        for rate in ("0.001", "1e-05", "0.0001")
    }


def test_what_follows_from_a_strategy_is_no_factor_and_rates_are_in_order_of_size():
    design = design_of(grid())
    assert design is not None
    assert [(f.name, f.levels) for f in design.factors] == [
        ("strategy", ("dr_grpo", "uniform")),
        ("learning_rate", ("1e-05", "0.0001", "0.001")),
    ]
    assert design.arms_at("uniform") == ["uniform 1e-05", "uniform 0.0001", "uniform 0.001"]
    assert design.setting("uniform 1e-05") == "learning_rate 1e-5"


def test_one_rate_for_each_strategy_makes_no_design_and_one_more_does():
    arms = grid()
    own = {name: arms[name] for name in ("uniform 1e-05", "dr_grpo 0.0001")}
    assert design_of(own) is None
    assert design_of({**own, "uniform 0.001": arms["uniform 0.001"]}) is not None


def test_part_of_a_strategy_that_is_swept_is_a_factor_of_its_own():
    design = design_of(
        {
            f"{weight} {rate}": told(
                credit__name="dr_grpo", credit__weight___target_=weight, trainer__learning_rate=rate
            )
            for weight in ("credit.weight.constant", "credit.weight.seq_mean")
            for rate in ("0.1", "0.2")
        }
    )
    assert design is not None and [f.name for f in design.factors] == ["weight", "learning_rate"]
    assert [level_text(level) for level in design.compared.levels] == ["constant", "seq_mean"]


def test_another_factor_can_be_compared_at_the_best_of_the_rest():
    design = design_of(grid(), compared="learning_rate")
    assert design is not None and [f.name for f in design.factors] == ["learning_rate", "strategy"]
    with pytest.raises(ValueError, match="compare=beta is no factor of these runs; there is strategy, learning_rate"):
        design_of(grid(), compared="beta")


def test_arms_without_settings_have_no_factors():
    assert design_of({**grid(), "bare": {}}) is None
    with pytest.raises(ValueError, match="none that cross"):
        design_of({"a": told(credit__name="a")}, compared="strategy")


@pytest.mark.parametrize(
    ("level", "text"),
    [("0.0001", "1e-4"), ("1e-05", "1e-5"), ("0.000316", "3.16e-4"), ("0.001", "1e-3"), ("0.95", "0.95"), ("128", "128"),
     ("0", "0"), ("constant", "constant"), ("credit.weight.constant", "constant"), ("", "(not set)")],
)  # fmt: skip
def test_levels_are_written_as_people_write_them(level, text):
    assert level_text(level) == text
