"""The default task: its texts, its truth, its noise."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.chain import PATTERN, VOCABULARY, Noise, chain, demonstrate

NUMBERS = st.lists(st.integers(1, 9), min_size=2, max_size=5)
PERFECT = Noise(1.0, 1.0, 1.0)


def rewards_of(task, completions, answers):
    return [func(completions=completions, answer=answers) for func in task.reward_funcs]


@pytest.fixture(scope="module")
def task():
    return chain(n_train=600, n_eval=200)


@given(NUMBERS, st.integers())
def test_a_perfect_demonstration_earns_everything_and_shows_every_running_sum(numbers, seed):
    text = demonstrate(numbers, PERFECT, random.Random(seed))
    sums = [sum(numbers[: count + 1]) for count in range(len(numbers))]
    steps = [f"{before}+{n}={after}" for before, n, after in zip(sums, numbers[1:], sums[1:], strict=False)]
    assert text == f"<think>{' '.join(steps)}</think><answer>{sums[-1]}</answer>"
    task = chain(n_train=1, n_eval=0)
    assert rewards_of(task, [text], [str(sum(numbers))]) == [[1.0], [1.0]]


@pytest.mark.parametrize("terms", [(2, 5), (2, 2)])
def test_a_smaller_evaluation_makes_no_other_data(terms):
    small, whole = (chain(n_train=50, n_eval=count, terms=terms) for count in (4, 16))
    assert small.train == whole.train and small.demonstrations(50, 0) == whole.demonstrations(50, 0)
    assert small.evaluation == whole.evaluation[:4]


@given(NUMBERS, st.integers())
def test_a_demonstration_with_broken_format_never_passes_the_format(numbers, seed):
    text = demonstrate(numbers, Noise(0.0, 1.0, 0.5), random.Random(seed))
    assert not re.fullmatch(PATTERN, text)


@given(NUMBERS, st.integers())
def test_the_answer_of_a_demonstration_is_its_last_running_sum(numbers, seed):
    text = demonstrate(numbers, Noise(1.0, 0.3, 1.0), random.Random(seed))
    sums, answer = re.fullmatch(r"<think>([0-9+= ]+)</think><answer>([0-9]+)</answer>", text).groups()
    steps = [re.fullmatch(r"(\d+)\+(\d+)=(\d+)", step).groups() for step in sums.split()]
    assert steps[-1][2] == answer and [int(n) for _, n, _ in steps] == numbers[1:]
    assert all(step[2] == after[0] for step, after in pairwise(steps))  # errors are carried on


def test_the_noise_is_as_likely_as_it_says():
    numbers, rng = [3, 5], random.Random(0)
    texts = [demonstrate(numbers, Noise(), rng) for _ in range(4000)]
    formatted = [text for text in texts if re.fullmatch(PATTERN, text)]
    assert len(formatted) / len(texts) == pytest.approx(0.5, abs=0.04)  # five standard errors
    assert sum("<think></think>" not in text for text in formatted) / len(formatted) == pytest.approx(0.7, abs=0.05)
    assert sum("<answer>8<" in text for text in formatted) / len(formatted) == pytest.approx(0.8, abs=0.05)


def test_train_evaluation_and_demonstration_prompts_are_apart_where_they_must(task):
    held_out = {row["prompt"] for row in task.evaluation}
    assert len(held_out) == 200
    assert not held_out & {row["prompt"] for row in task.train}
    assert not held_out & {row["prompt"] for row in task.demonstrations(5000, 1)}


def test_evaluation_has_every_number_of_terms_but_leaves_most_short_prompts_to_training(task):
    terms = [row["prompt"].count("+") + 1 for row in task.evaluation]
    assert set(terms) == {2, 3, 4, 5}
    assert terms.count(2) == 81 // 5


def test_answers_are_the_sums(task):
    for row in (*task.train, *task.evaluation):
        assert row["answer"] == str(eval(row["prompt"].rstrip("=")))


def test_the_longest_good_completion_fits_the_suggested_length(task):
    text = demonstrate([9] * 5, PERFECT, random.Random(0))
    pieces = re.findall("|".join(map(re.escape, sorted(VOCABULARY, key=len, reverse=True))), text)
    assert "".join(pieces) == text and len(pieces) + 1 == task.max_completion_length


def test_an_answer_inside_a_broken_format_still_counts_and_an_unclosed_one_does_not(task):
    texts = ["<answer>8</answer>", "<think>3 8<answer><answer>8</answer>", "<answer>8", "<answer>9</answer>", ""]
    formats, answers = rewards_of(task, texts, ["8"] * 5)
    assert formats == [0.0] * 5
    assert answers == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_the_rows_depend_on_the_task_seed_and_on_nothing_else():
    random.seed(1)
    first = chain(n_train=50, n_eval=20)
    random.seed(2)
    assert first.train == chain(n_train=50, n_eval=20).train
    assert first.demonstrations(20, 0) == chain(n_train=10, n_eval=20).demonstrations(20, 0)
    assert first.train != chain(n_train=50, n_eval=20, seed=1).train


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": (1, 5)}, "2 <= fewest"),
        ({"terms": (4, 3)}, "2 <= fewest"),
        ({"n_train": 0}, "n_train"),
        ({"terms": (2, 2), "n_eval": 40}, "only 16 prompts"),
        ({"noise": {"p_step": 1.5}}, "p_step"),
        ({"noise": {"p_stp": 0.5}}, "p_step"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        chain(**settings)
