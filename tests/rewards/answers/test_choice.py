"""Multiple choice: where the letter is read, and what a reference means."""

import time

import pytest
from hypothesis import given, settings

from rewards.accuracy import multiple_choice
from rewards.answers.choice import choice_base, option_texts
from rewards.answers.choice_text import choice_reader
from support.text_strategies import texts

read = choice_reader("ABCDEFGHIJ")

CHOSEN = {
    "a) first we add. b) then we multiply. The answer is C": "C",
    "E.g. take x=2; the answer is B": "B",
    "**B**": "B",
    r"\boxed{B}": "B",
    r"The final answer is $\boxed{\text{(D)}}$. I hope it is correct.": "D",
    "Answer: **B**": "B",
    "**Answer:** B": "B",
    "Correct answer: `A`": "A",
    "Answer:\n\nb": "B",
    "ANSWER: (c)": "C",
    "<answer>B</answer>": "B",
    "B": "B",
    "b": "B",
    "(b)": "B",
    "[B].": "B",
    "J": "J",
    "Ｂ": "B",
    "Option A": "A",
    "B) 5 km": "B",
    "B. Paris": "B",
    "B: Paris": "B",
    "D - Rome": "D",
    "C. because A is wrong": "C",
    "The answer is B. Wait, the answer is D.": "D",
    "The correct answer is option C: Paris": "C",
    "Therefore, the correct choice is: (C)": "C",
    "the answer, surprisingly, is B!": "B",
    "The answer is A because it is": "A",
    "The answer is **(B) Paris**.": "B",
    "The answer is C, B is wrong.": "C",
    "Answer: B\n\nBecause A is wrong.": "B",
    "So it is C.": "C",
    "I would choose B.": "B",
    "A is wrong, B is correct.": "B",
    "Reasoning about E.g. stuff\n\n**C**": "C",
    "A) London\nB) Paris\n\nAnswer: B": "B",
    "It's (C)": "C",
    "it must be **B. Paris** then": "B",
    "#### D": "D",
    "答案是B": "B",
    'The answer is "B".': "B",
    "The answer is ‘B’.": "B",
    '{"answer": "B"}': "B",
    '```json\n{"answer": "B"}\n```': "B",
    "B\n\nQuestion: What is A?": "B",
    "B)21.5": "B",
    "Ans: B": "B",
    "We get 5, which matches option C.": "C",
    "This corresponds to (D).": "D",
    "Between A and B, I'd say B.": "B",
    "Answer - B": "B",
    "Final: (B)": "B",
    "The solution is B.": "B",
    "The answer is (B) because (A) is wrong and (C) too.": "B",
}
AMBIGUOUS = [
    "a) first we add. b) then we multiply.",
    "(A) London (B) Paris (C) Rome",
    "E.g. this",
    "i.e. that",
    "A cat",
    "The answer is a cat",
    "Answer: A dog",
    "I think B",
    "This matches A and B.",
    "It corresponds to a cat.",
    "A or B",
    "The answer is A or B",
    "The answer is A and C",
    "A, B",
    "ABC",
    "A B C",
    "option A or option C",
    "Both A and B",
    "answer: a/b",
    "The answer is not B",
    "The answer isn't B.",
    "the answer is C++",
    "the answer is e^x",
    "Answer: x = a + b",
    "Answer: 5",
    "Let f(A) = 2",
    "none of the above",
    "Dear user",
    "",
]


@pytest.mark.parametrize("text", CHOSEN)
def test_the_letter_is_read_where_the_answer_is_stated(text):
    assert read(text) == CHOSEN[text]
    scores = [score(text, letter) for letter in "ABCDEFGHIJ"]
    assert scores == [float(letter == CHOSEN[text]) for letter in "ABCDEFGHIJ"]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_what_chooses_nothing_or_several_scores_zero(text):
    assert read(text) is None
    assert {score(text, letter) for letter in "ABCDE"} == {0.0}


@pytest.mark.parametrize(
    "form", ["{}", "({})", "**{}**", r"\boxed{{{}}}", "Answer: {}", "The answer is {}.", "{}. text"]
)
def test_every_letter_up_to_j_counts_in_every_form_and_in_either_case(form):
    for letter in "ABCDEFGHIJ":
        assert score(form.format(letter), letter) == score(form.format(letter.lower()), letter) == 1
        assert score(form.format(letter), "B" if letter != "B" else "C") == 0


@given(texts)
@settings(deadline=None)
def test_the_last_statement_wins_whatever_stood_before(before):
    assert read(f"{before}\n\nThe answer is C.") == "C"


@pytest.mark.parametrize(
    "text",
    [
        "answer ",
        "(A) ",
        r"\text{",
        "**",
        "A, ",
        "a) b) ",
        "so it is ",
        "the ",
        "answer is the ",
        " ",
        "\n",
        "answer:  ",
        "<answer> ",
        "solution - ",
    ],
)
def test_reading_takes_time_linear_in_the_text(text):
    def seconds(count):
        started = time.process_time()
        read(text * count + "x")
        return time.process_time() - started

    seconds(100)
    assert seconds(16_000) < 64 * seconds(1_000) + 0.2


def score(answer, reference, **options):
    row = {"answer": [reference]}
    if "cell" in options:
        row["choices"] = [options.pop("cell")]
        options["options"] = "choices"
    (value,) = multiple_choice(**options)(completions=[answer], **row)
    return value


@pytest.mark.parametrize("reference", ["B", "b", "(B)", "B.", "B)", "B. Paris", " B ", "(b) Paris", ["B"], ["x", "B"]])
def test_a_reference_is_a_letter_in_its_usual_writings(reference):
    assert score("B", reference) == 1 and score("C", reference) == 0


def test_an_index_counts_from_the_base_and_a_digit_is_met_by_itself():
    assert score("B", 1) == score("B", 1, base=0) == score("A", 1, base=1) == score("B", "2", base=1) == 1
    assert score("A", 1) == score("B", 1, base=1) == score("B", "2", base=0) == 0
    assert score("2", "2") == score("(2)", "2") == score("The answer is 2", 2, base=1) == score("B", 1.0) == 1
    assert score("B", "2") == 0  # no base: only the digit; at load this is refused
    for unknown in (10, "12", -1, "Paris", "A, C"):
        assert score("A", unknown) is None


@pytest.mark.parametrize(
    "cell",
    [
        ["London", "Paris"],
        ["A) London", "B) Paris"],
        {"text": ["London", "Paris"], "label": ["A", "B"]},
        {"text": ["London", "Paris"], "label": ["1", "2"]},
        {"A": "London", "B": "Paris", "C": None},
    ],
)
def test_with_the_options_their_texts_are_answers_and_references(cell):
    for reference in ("Paris", "B", " paris. "):
        assert score("B", reference, cell=cell) == score("Paris", reference, cell=cell) == 1
        assert score("A", reference, cell=cell) == score("London", reference, cell=cell) == 0
    assert score("B", 1, cell=cell, base=0) == 1 and score("B", 5, cell=cell, base=0) is None


@pytest.mark.parametrize(
    "form",
    [
        "The answer is {}.",
        "Answer: {}",
        "**Answer:** {}",
        r"\boxed{{{}}}",
        r"\boxed{{\text{{{}}}}}",
        "<answer>{}</answer>",
        "#### {}",
        '{{"answer": "{}"}}',
    ],
)
def test_the_text_of_an_option_is_read_where_an_answer_is_stated(form):
    cell = ["21", "21.5", "new york"]
    for place, option in enumerate(cell):
        text = "A guess: 22.\n" + form.format(option)
        scores = [score(text, letter, cell=cell) for letter in "ABC"]
        assert scores == [float(other == place) for other in range(3)], text


def test_digits_that_are_labels_or_texts_of_options_need_no_base():
    assert score("B", "2", cell={"text": ["x", "y"], "label": ["1", "2"]}) == 1
    assert score("B", "12", cell=["10", "12"]) == score("12", "12", cell=["10", "12"]) == 1
    assert option_texts(None) == option_texts("text") == ([], [])


def test_the_base_is_decided_by_a_zero_a_last_option_or_a_long_column():
    assert choice_base([0, 3], [None, None]) == choice_base([0, 3], [4, 4]) == 0
    assert choice_base([1, 4], [4, 4]) == choice_base([1, 2, 3, 4] * 5, [None] * 20) == 1
    assert choice_base([1, 2], [4, 4]) is choice_base([1, 2, 3], [None] * 3) is choice_base([0, 4], [4, 4]) is None


@pytest.mark.parametrize("options", [{"letters": "AAB"}, {"letters": "A1"}, {"base": 2}, {"base": True}])
def test_a_bad_option_is_refused(options):
    with pytest.raises(ValueError):
        multiple_choice(**options)
