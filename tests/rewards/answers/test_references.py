"""References keep their type, and those that can never be scored are counted."""

import datetime
from decimal import Decimal

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.accuracy import exact_match, multiple_choice, numeric_match
from rewards.answers.references import reference_text, references_of
from rewards.answers.scorable import check_references
from rewards.compose import gate
from rewards.extract import after_marker, first_of, in_tag, last_boxed, last_number, whole_text
from rewards.guard import guarded
from rewards.tags import think_answer


def exact(answer, reference, **options):
    (value,) = exact_match(**options)(completions=[answer], answer=[reference])
    return value


@given(st.one_of(st.integers(-(2**70), 2**70), st.floats(-(2**53), 2**53)))
def test_a_number_is_met_by_every_writing_of_its_value(number):
    text = reference_text(number)
    assert "e" not in text and exact(text, number) == exact(f" {text} ", number) == 1
    if isinstance(number, int) or number.is_integer():
        assert (
            exact(f"{int(number)}", number)
            == exact(f"{int(number)}.0", number)
            == exact(f"{int(number):,}", number)
            == 1
        )
        assert exact(str(int(number) + 1), number) == 0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("145", 145.0),
        ("145.00", 145),
        ("145", "145.0"),
        ("\u22125", -5),
        ("0.3", 0.30000000000000004),
        ("0.1", float(numpy.float32(0.1))),
        (".5", 0.5),
        ("1.5", Decimal("1.50")),
        ("true", True),
        ("True", True),
        ("Yes.", True),
        ("no", False),
        ("TRUE", "true"),
        ("false", "False"),
        ("2024-01-31", datetime.date(2024, 1, 31)),
        ("2024-01-31", datetime.datetime(2024, 1, 31)),
        ("9223372036854775809", 2**63 + 1),
        ("b", ["a", "b"]),
        ("b", numpy.array(["a", "b"])),
        ("3", [[1], [3.0]]),
    ],
)
def test_the_right_answer_counts_whatever_the_type_of_the_reference(answer, reference):
    assert exact(answer, reference) == 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("146", 145.0), ("9223372036854775808", 2**63 + 1), ("1", True), ("True", 1), ("3.1", "3.10"), ("7", "007")]
    + [("0", False), ("yes", False), ("x2", "x²"), ("0.31", 0.3), ("5%", 5), ("5 apples", 5), ("yes", "True")],
)
def test_another_value_does_not_count(answer, reference):
    assert exact(answer, reference) == 0


@pytest.mark.parametrize("cell", [None, "", "  ", [], [None], float("nan"), [""], (), numpy.array([])])
def test_nothing_is_no_reference(cell):
    assert references_of(cell) == [] and exact("", cell) is None and exact("None", cell) is None


@pytest.mark.parametrize(
    "extract",
    [whole_text(), last_boxed(), in_tag("answer"), after_marker("####"), first_of(in_tag("answer"), last_number())],
)
def test_what_an_extractor_writes_it_finds_again(extract):
    assert extract("before " * (not isinstance(extract, whole_text)) + extract.write("12")) == "12"


@pytest.mark.parametrize(
    ("reward", "good", "bad"),
    [
        (numeric_match(), "9", "9 (apples)"),
        (numeric_match(), 9.5, "1,5"),
        (multiple_choice(), "B", "Paris"),
        (exact_match(last_number()), "9", "Paris"),
        (exact_match(after_marker("####")), "one line", "two\nlines"),
        (exact_match(in_tag("answer")), "<b>", "</answer>"),
        (exact_match(last_boxed()), "{}", "}{"),
    ],
)
def test_what_can_be_scored_is_what_the_reference_itself_would_score(reward, good, bad, caplog):
    assert reward.can_score(good) and not reward.can_score(bad) and reward.can_score([bad, good])
    rows = [{"answer": good}, {"answer": bad}, {"answer": [bad, good]}, {"answer": bad}, {"answer": None}]
    check_references([guarded(gate(reward, think_answer()))], rows, "data")
    assert f"reward '{reward.__name__}' cannot score 2 of 4 references, e.g. row 2" in caplog.text
    assert "1 of 5 rows have no reference" in caplog.text
    with pytest.raises(ValueError, match=r"cannot score 1 of 1 references, e.g. row 2"):
        check_references([reward], [{"answer": None}, {"answer": bad}], "data")
    with pytest.raises(ValueError, match="no row has anything in the column 'answer'"):
        check_references([reward], [{"answer": None}], "data")


def test_numbers_for_choices_need_a_base_that_the_data_do_not_speak_against():
    rows = [{"answer": number} for number in (1, 2, 3, 4)]
    with pytest.raises(ValueError, match="set base"):
        check_references([multiple_choice()], rows, "data")
    for fine in (multiple_choice(base=1), multiple_choice(base=0)):
        check_references([fine], rows, "data")
    check_references([multiple_choice()], [*rows, {"answer": 0}], "data")


def test_rewards_that_compare_nothing_are_passed_over():
    check_references([think_answer(), lambda prompts, completions, **columns: [0.0]], [{}], "data")
