"""Numbers in texts: what is read, what is none, what two writings mean."""

import math
from fractions import Fraction

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.accuracy import exact_match, numeric_match, to_number
from rewards.answers.numbers import exact_number, plain_marks, read_number
from rewards.answers.words import words
from rewards.extract import last_number

READ = {
    "1,234.5": "2469/2",
    "1,234,567": 1234567,
    "-3e2": -300,
    "3/4": "3/4",
    "3/-4": "-3/4",
    "2 1/2": "5/2",
    "-2 1/2": "-5/2",
    "2 and 1/2": "5/2",
    "½": "1/2",
    "2½": "5/2",
    "6.02 × 10^23": 602 * 10**21,
    "6.02e23": 602 * 10**21,
    "6.02x10^{23}": 602 * 10**21,
    r"6.02 \times 10^{23}": 602 * 10**21,
    "6.02 · 10²³": 602 * 10**21,
    "10^-3": "1/1000",
    "10²": 100,
    r"\frac{3}{4}": "3/4",
    r"-\frac12": "-1/2",
    r"2\frac{1}{2}": "5/2",
    r"\$32,\!348": 32348,
    r"10\,000": 10000,
    "1{,}234": 1234,
    "1\u202f000\u202f000": 1000000,
    "$5": 5,
    "-$5": -5,
    "$-5": -5,
    "€1,200.50": "2401/2",
    "US$5": 5,
    "+5": 5,
    "\u22125": -5,
    "\u20137": -7,
    "\u22120": 0,
    "5.": 5,
    ".5": "1/2",
    "007": 7,
    "１２": 12,
    "٣": 3,
    "1e400": 10**400,
    "$12$": 12,
    r"\(12\)": 12,
}
NONE = """1,5 | 1,2,3 | 1,2345 | 12,34 | 1_000 | 0x10 | nan | inf | -inf | NaN | Infinity | 1.000.000 | 1.000,50 | five | 2x | 5!
    12:30 | 3-4 | 5- | x=5 | 1/0 | 1e999999999 | 1 000 | 5 million | 5 or six | 5 minutes 30 seconds | 3rd | 2 and a half
    1.5 1/2 | . | - | $ | % | 5 pi | 10^10^10 | 1e | ½½ | 3 fifths"""


@pytest.mark.parametrize("text", READ)
def test_a_number_is_read_exactly_in_every_usual_writing(text):
    number = read_number(text)
    assert number is not None and (number.value, number.percent, number.unit) == (Fraction(READ[text]), False, "")


@pytest.mark.parametrize("text", [text.strip() for line in NONE.splitlines() for text in line.split(" | ")])
def test_what_is_no_number_or_could_be_several_is_none(text):
    assert read_number(text) is None


@given(st.fractions(max_denominator=999))
def test_a_mixed_number_is_its_whole_and_its_fraction(value):
    whole, rest = divmod(abs(value), 1)
    written = f"{'-' if value < 0 else ''}{whole} {rest.numerator}/{rest.denominator}"
    assert read_number(written).value == value


@given(st.integers(-(10**30), 10**30))
def test_commas_between_groups_of_three_change_nothing_and_any_other_comma_makes_it_none(number):
    written = f"{number:,}"
    assert read_number(written).value == number
    if "," in written:
        assert read_number(written + "0") is None and read_number(written[:-1]) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6))
def test_dashes_digits_of_other_scripts_and_trailing_points_change_no_value(number):
    written = f"{number:f}"
    other = "".join("٠١٢٣٤٥٦٧٨٩"[int(mark)] if mark.isdigit() else mark for mark in written).replace("-", "\u2212")
    assert read_number(other).value == read_number(written + ".").value == Fraction(number)


@pytest.mark.parametrize(
    ("text", "value", "percent", "unit"),
    [
        ("20%", 20, True, ""),
        ("20 percent", 20, True, ""),
        (r"3.5\%", "7/2", True, ""),
        ("9 cm", 9, False, "cm"),
        ("5cm", 5, False, "cm"),
        ("9 (apples)", 9, False, "(apples)"),
        ("5 dollars.", 5, False, "dollars"),
        (r"15\mbox{ cm}^2", 15, False, "cm^2"),
        (r"70 \text{ inches}", 70, False, "inches"),
        (r"90^\circ", 90, False, "°"),
        ("12.5 miles per hour", "25/2", False, "miles per hour"),
    ],
)
def test_per_cent_and_units_are_told_from_the_value(text, value, percent, unit):
    assert read_number(text) == (Fraction(value), percent, unit)


def score(reward, answer, reference):
    (value,) = reward(completions=[answer], answer=[reference])
    return value


def number(answer, reference, **options):
    return score(numeric_match(lambda text: text, **options), answer, reference)


def test_per_cent_is_a_fraction_or_a_number_or_either_as_asked():
    for answer, reference in (("20%", 20), ("20", "20%"), ("20%", 0.2), ("0.2", "20%"), ("20%", "20 percent")):
        assert number(answer, reference) == 1
    assert number("20%", "0.2%") == number("0.2%", "20%") == 0
    assert number("20%", 20, percent="fraction") == number("20%", 0.2, percent="number") == 0
    assert number("20%", 0.2, percent="fraction") == number("20%", 20, percent="number") == 1


def test_units_are_passed_over_in_the_answer_or_both_or_not_at_all():
    assert number("9 apples", 9) == 1 and number("9 apples", 8) == 0 and number("9 apples", 9, units="none") == 0
    assert number("9", "9 (apples)") is None and number("9", "9 (apples)", units="both") == 1
    assert number("$9", "9", units="none") == 1


def test_tolerances_are_exact_even_beyond_what_a_float_can_tell():
    assert number(str(2**60), 2**60 + 1, relative=0) == 0 and number(str(2**60 + 1), 2**60 + 1, relative=0) == 1
    assert number("1e400", "1e400") == 1 and number("1e400", "1e401") == 0
    assert number("0.3", 0.3, relative=0) == number("0.1", 0.1, relative=0) == 1
    assert number("1.0000011", 1) == 0 and number("1.000001", 1) == 1


@pytest.mark.parametrize("option", [{"relative": -1}, {"absolute": math.inf}, {"percent": "x"}, {"units": "x"}])
def test_a_bad_option_is_refused(option):
    with pytest.raises(ValueError):
        numeric_match(**option)


@pytest.mark.parametrize("reference", [None, float("nan"), "", "x", True, [], "1,5", numpy.nan])
def test_a_reference_that_is_no_number_is_not_scored(reference):
    assert number("1", reference) is None


def test_numbers_of_numpy_and_decimals_are_taken_as_they_print():
    from decimal import Decimal

    assert exact_number(numpy.float64(0.1)) == exact_number(Decimal("0.1")) == Fraction(1, 10)
    assert exact_number(numpy.int64(2**60 + 1)) == 2**60 + 1
    assert exact_number(numpy.bool_(True)) is exact_number(True) is exact_number("1") is None
    assert to_number("1e400") is None and to_number("9 cm") is None and to_number("2 1/2") == 2.5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("takes 2 1/2 hours", "2 1/2"),
        ("it is \u22125", "\u22125"),
        ("pages 3\u20135", "5"),
        ("pages 3-5", "5"),
        ("x - 3 = 4", "4"),
        ("a loss: -$5 then", "-$5"),
        ("costs $5.", "5"),
        ("so 6.02 × 10^23 atoms", "6.02 × 10^23"),
        (r"is $\frac{3}{4}$.", r"\frac{3}{4}"),
        (r"is 2\frac{1}{2}", r"2\frac{1}{2}"),
        ("it is 1,5", "1,5"),
        ("1,2,3", "1,2,3"),
        ("1, 2, 3", "3"),
        (r"so 20\%", r"20\%"),
        ("7 on 12/25/2024", "7"),
        (r"\boxed{5}", "5"),
        ("2½ cups", "2½"),
        (r"\boxed{1{,}234}", "1{,}234"),
        (r"\$1,\!234.50 each", r"1,\!234.50"),
        (r"so $12\,345\,678$", r"12\,345\,678"),
        ("18\u00a0000 m", "18\u00a0000"),
        (r"1\,5", "5"),
    ],
)
def test_the_last_number_is_found_whole(text, found):
    assert last_number()(text) == found


@pytest.mark.parametrize("mark", [",", "{,}", r",\!", r"\,", r"\ ", "\u00a0", "\u202f"])
def test_a_number_with_thousands_set_off_is_found_and_is_the_number(mark):
    text = f"So it is $1{mark}234{mark}567.5$."
    assert numeric_match()(completions=[text], answer=[1234567.5]) == [1.0]


def test_a_decimal_comma_is_never_read_as_something_else():
    for reference in (15, 5, 1, 1.5):
        assert score(numeric_match(), "so 1,5", reference) == 0
    assert score(numeric_match(), "so 1,2,3", 123) == score(numeric_match(), "so 1,2,3", 3) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("-5", "5"), ("C++", "C"), ("C#", "C"), ("3/4", "3 4"), (".5", "5"), ("5!", "5"), ("x²", "x2"), ("20%", "20")]
    + [
        ("f(x)", "f x"),
        ("[1,2)", "(1,2)"),
        ("1,2", "1 2"),
        ("12:30", "12 30"),
        ("a_b", "a b"),
        ("2*3", "2 3"),
        ("$5", "5"),
    ],
)
def test_words_keep_every_mark_that_carries_meaning(one, other):
    assert words(one) != words(other)
    assert score(exact_match(normalise="words"), one, other) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u22125", "-5"),
        (" (4). ", "4"),
        ("Hello, World!", "hello world"),
        ("well-known", "well known"),
        ("don’t", "Don't"),
    ]
    + [
        ("**Paris**", "paris"),
        ("“Paris”", "Paris."),
        ("Paris (France)", "Paris, France"),
        ("x²", "x^2"),
        ("STRASSE", "straße"),
    ],
)
def test_words_drop_case_quotes_emphasis_and_marks_of_sentences(one, other):
    assert words(one) == words(other) != ""


@given(st.text(max_size=30))
def test_normal_forms_are_their_own_normal_forms(text):
    assert words(words(text)) == words(text)
    assert plain_marks(plain_marks(text)) == plain_marks(text)
