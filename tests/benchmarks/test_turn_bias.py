"""The biases of credit by turns that docs/credit/turns.md publishes, by plain loops over every group of conversations."""

from __future__ import annotations

import json
import sys

import pytest

from configs.compose import named_strategy
from lab.exact.quantities import exact
from lab.exact.worlds import world
from lab.measure.estimate import measure
from support.published import DOCS

sys.path.insert(0, str(DOCS.parent / "benchmarks" / "agents"))

from loops import CREDITS, recounted, start_of, talks_of

PUBLISHED = json.loads((DOCS / "results" / "agents" / "bias.json").read_text(encoding="utf-8"))


def published(name: str, labels) -> dict[str, float]:
    return {label: PUBLISHED["worlds"][name][label]["bias"] for label in labels}


def test_the_published_biases_in_chores_are_those_of_plain_loops_over_all_pairs():
    found = recounted("chores", PUBLISHED["group"]["chores"], ["gigpo, as coded", "mt_grpo to_go"])
    assert found == pytest.approx(published("chores", found), abs=1e-12)
    assert all(0.01 < bias < 1 for bias in found.values())


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("gigpo, as coded", "gigpo"),
        ("mt_grpo aae", "mt_grpo"),
        ("mt_grpo to_go", "mt_grpo credit.spread.estimator=to_go"),
    ],
)
def test_biases_in_search_are_those_of_plain_loops_over_all_pairs(label, words):
    lab = measure(exact(world("search")), named_strategy(f"{words} credit/weight=constant"), 2)
    assert lab.exact and recounted("search", 2, [label])[label] == pytest.approx(lab["relative_bias"], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED["group"])
def test_every_published_bias_is_that_of_plain_loops_over_all_groups(name):
    found = recounted(name, PUBLISHED["group"][name])
    assert set(found) == set(PUBLISHED["worlds"][name]) - {"turn_value"} and set(found) == set(CREDITS)
    assert found == pytest.approx(published(name, found), abs=1e-12)
    assert found == pytest.approx({label: PUBLISHED["worlds"][name][label]["loops"] for label in found}, abs=1e-14)


def test_the_loops_play_every_conversation_once():
    for name in PUBLISHED["group"]:
        for prompt in world(name).prompts:
            talks = talks_of(world(name), prompt, start_of(name))
            assert sum(talk.chance for talk in talks) == pytest.approx(1.0, abs=1e-12)
