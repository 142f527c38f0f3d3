"""What a mathematical answer says, beyond competition_answers.txt: products, residues, fractions close to each other."""

import pytest

from rewards.answers.same import same
from rewards.answers.values import value
from rewards.maths import math_equal


def equal(one: str, other: str) -> bool:
    there, back = same(value(one), value(other)), same(value(other), value(one))
    assert there == back
    return there


@pytest.mark.parametrize("text", [r"3 \pmod{5}", r"x \equiv 3 \pmod{7}", r"3 \bmod 5", r"\pmb{x}"])
def test_what_only_begins_like_plus_minus_is_read_as_what_it_is(text):
    assert math_equal()(completions=[rf"\boxed{{{text}}}"], answer=[text]) == [1.0]
    assert not equal(text, "3") and not equal(text, text.replace("3", "4").replace("x", "y"))


@pytest.mark.parametrize(
    ("product", "is_", "is_not"),
    [("2(3)", "6", "5"), ("(2)(3)", "6", "5"), ("-2(-3)", "6", "-5"), (r"3(\frac{1}{2})", "1.5", "3.5")],
)
def test_a_number_before_a_bracket_multiplies_it(product, is_, is_not):
    assert equal(product, is_) and not equal(product, is_not)


def test_functions_and_indices_before_a_bracket_multiply_nothing():
    assert equal(r"\log_{2}(8)", "3") and equal(r"\sin^2(3)", r"(\sin 3)^2") and not equal("f(3)", "3f")


@pytest.mark.parametrize("power", [10, 60, 100, 300])
def test_fractions_are_compared_exactly_however_close(power):
    assert not equal("1", rf"1 - \frac{{1}}{{2^{{{power}}}}}")
    assert equal(rf"1 - \frac{{1}}{{2^{{{power}}}}}", rf"\frac{{2^{{{power}}} - 1}}{{2^{{{power}}}}}")


def test_the_empty_set_and_the_real_numbers_are_one_in_both_notations():
    assert equal(r"\{\}", r"\emptyset") and equal("∅", r"\{ \}")
    assert equal(r"\mathbb{R}", r"(-\infty, \infty)") and equal("ℝ", r"x \in (-\infty, \infty)")
    assert not equal(r"\mathbb{R}", r"\mathbb{Q}") and not equal(r"\{\}", r"\{0\}")


def test_braces_round_an_answer_change_nothing():
    assert equal("{5}", "5") and equal(r"{{\frac{1}{2}}}", "0.5") and not equal(r"\{5\}", "{6}")


@pytest.mark.parametrize("text", ["{" * 40 + "1, 2" + "}" * 40, "x^" * 60 + "x", "(" * 900 + "1" + ")" * 900])
def test_deep_nesting_is_no_reason_to_leave_a_row_unscored(text):
    assert math_equal()(completions=[rf"\boxed{{{text}}}"], answer=["5"]) == [0.0]
