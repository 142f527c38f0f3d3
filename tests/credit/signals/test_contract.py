"""What a provider of signals may be, and what is said to one that is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from credit import Strategy, weight
from credit.signals import BUILT_IN, SIGNALS, Column, Rows, Signal, ask, catalogue_of, is_signal_name, provides
from credit.signals.contract import provided_by

MASK = torch.tensor([[True, True, False], [True, False, False]])


@provides(stage="both", surprise_BT="how unexpected")
def surprise(rows, scale=1.0):
    return {"surprise_BT": scale * torch.ones(rows.mask_BT.shape)}


@dataclass
class Named:
    """A provider made on the spot."""

    name: str
    value: object
    returned: str = ""

    def __post_init__(self):
        self.provides = {self.name: "whatever"}

    def __call__(self, rows):
        return {self.returned or self.name: self.value}


def rows(**columns) -> Rows:
    found = Rows()
    found.mask_BT, found.rewards_B, found.columns = MASK.clone(), torch.zeros(2), columns
    return found


def reading(name: str):
    """A weight that asks for one signal."""
    space: dict = {}
    exec(f"def member(mask_BT, {name}): return mask_BT * 1.0", space)
    return space["member"]


@pytest.mark.parametrize("given", [[surprise], {"mine": surprise}, [partial(surprise, scale=2.0)]])
def test_a_member_asks_by_name_and_only_what_is_asked_for_is_made(given):
    asking = Strategy(reading("surprise_BT"), signals=given)
    assert [wanted for _, wanted in asking.makers()] == [{"surprise_BT"}]
    assert Strategy(weight.constant, signals=given).makers() == []


def test_a_built_in_signal_needs_no_provider_named_and_a_named_one_takes_its_place():
    (maker, wanted), *rest = Strategy(reading("scoring_entropies_BT")).makers()
    assert maker in BUILT_IN and wanted == {"scoring_entropies_BT"} and not rest
    own = Named("scoring_entropies_BT", torch.zeros(2, 3))
    assert Strategy(reading("scoring_entropies_BT"), signals=[own]).makers() == [(own, {"scoring_entropies_BT"})]


def test_every_built_in_signal_says_its_shape_in_its_name():
    for maker in BUILT_IN:
        for name, one in provided_by(maker).items():
            assert is_signal_name(name) and SIGNALS[name] == one and one.meaning


@pytest.mark.parametrize("name", ["surprise", "surprise_V", "Surprise_BT", "_BT"])
def test_a_name_that_does_not_say_its_shape_is_refused(name):
    with pytest.raises(ValueError, match="by ending in _B"):
        provides(**{name: "x"})


def test_a_stage_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="stage='later'"):
        provides(stage="later", x_B="x")


@pytest.mark.parametrize("thing", [lambda rows: {}, object(), 3, "my_file.surprise"])
def test_what_is_no_provider_is_told_how_to_be_one(thing):
    with pytest.raises(ValueError, match=r"no provider of signals.*@provides"):
        Strategy(weight.constant, signals=[thing])


def test_facts_of_the_batch_and_signals_of_another_provider_cannot_be_made():
    with pytest.raises(ValueError, match="rewards_B, which every run has"):
        catalogue_of([Named("rewards_B", torch.zeros(2))])
    with pytest.raises(ValueError, match="both make surprise_BT"):
        catalogue_of([surprise, partial(surprise, scale=2.0)])


def test_a_stage_is_held_to():
    late = Named("late_BT", torch.zeros(2, 3))
    late.provides = {"late_BT": Signal("", "loss", "x")}
    with pytest.raises(ValueError, match=r"weight.*asks for late_BT.*runs at scoring time"):
        Strategy(reading("late_BT"), signals=[late])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("x_BT", torch.zeros(2, 4), r"\(2, 4\) for x_BT, expected \(2, 3\)"),
        ("x_B", torch.zeros(2, 1), r"\(2, 1\) for x_B, expected \(2,\)"),
        ("x_BC", torch.zeros(3, 2), r"expected \(2, any\)"),
        ("x_B", [0.0, 1.0], "returned list for x_B"),
        ("x_B", torch.zeros(2, dtype=torch.complex64), "use floats"),
    ],
)
def test_what_a_provider_returns_is_checked_by_name(name, value, said):
    with pytest.raises(ValueError, match=f"The provider Named.*{said}"):
        ask(Named(name, value), rows(), frozenset([name]))


def test_names_are_checked_both_ways():
    with pytest.raises(ValueError, match="returned y_B, which it does not name"):
        ask(Named("x_B", torch.zeros(2), "y_B"), rows(), frozenset(["x_B"]))
    silent = Named("x_B", None)
    silent.__class__ = type("Silent", (Named,), {"__call__": lambda self, rows: {}})
    with pytest.raises(ValueError, match="did not return x_B"):
        ask(silent, rows(), frozenset(["x_B"]))


@pytest.mark.parametrize("name", ["mask_BT", "rewards_B"])
def test_a_provider_that_writes_into_the_rows_is_caught(name):
    def spoils(rows):
        getattr(rows, name)[0] = 1 - getattr(rows, name)[0].long()
        return {"x_B": torch.zeros(2)}

    with pytest.raises(ValueError, match=f"spoils wrote into {name}"):
        ask(provides(x_B="x")(spoils), rows(), frozenset(["x_B"]))


def test_no_gradient_leaves_a_provider():
    made = ask(Named("x_B", torch.zeros(2, requires_grad=True) * 2), rows(), frozenset(["x_B"]))
    assert not made["x_B"].requires_grad


def test_a_column_of_the_data_set_becomes_a_signal():
    made = ask(Column("hard"), rows(hard=[1, None]), frozenset(["hard_B"]))["hard_B"]
    assert made[0] == 1 and made[1].isnan()
    with pytest.raises(ValueError, match="no column 'easy'; there is hard"):
        ask(Column("easy"), rows(hard=[1, 2]), frozenset(["easy_B"]))


def test_a_helper_that_a_place_has_not_got_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"rows\.policy_pass is not to be had"):
        Rows().policy_pass("logps")


def test_a_signal_nobody_makes_is_answered_with_the_nearest_and_the_way_to_make_it():
    with pytest.raises(ValueError, match=r"did you mean 'surprise_BT'.*needs a provider"):
        Strategy(reading("suprise_BT"), signals=[surprise])
