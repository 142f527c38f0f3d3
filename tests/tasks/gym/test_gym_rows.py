"""reasoning-gym's rows and scorers: the same for the same seed in every process, no question on both sides, nothing run that
a model writes."""

import pickle

import pytest

pytest.importorskip("reasoning_gym")

from tasks.gym.rows import make_entries
from tasks.gym.scores import is_expression
from tasks.gym.task import reasoning_gym

SMALL = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


@pytest.fixture(scope="module")
def sums():
    return reasoning_gym("chain_sum", SMALL, n_train=300, n_eval=100, chat=False)


def answers(rows):
    return [f"<think>.</think><answer>{row['answer']}</answer>" for row in rows]


def numbers(rows):
    return [row["entry"] for row in rows]


def test_rows_are_asked_and_scored_by_the_scorer_of_the_task(sums):
    formatted, score = sums.reward_funcs
    assert (formatted.__name__, score.__name__, sums.reward_weights) == ("format", "answer", [0.2, 0.8])
    rows = sums.train + sums.evaluation
    assert score(completions=answers(rows), entry=numbers(rows)) == [1.0] * len(rows)
    wrong = ["<answer>99</answer>", rows[0]["answer"], "<answer></answer>", ""]
    assert score(completions=wrong, entry=numbers(rows[:1] * 4)) == [0.0] * 4


def test_no_question_stands_on_both_sides_and_few_questions_are_not_all_held_out(sums):
    asked, held_out = ({row["prompt"] for row in side} for side in (sums.train, sums.evaluation))
    assert not asked & held_out and len(held_out) == len(sums.evaluation)
    assert 20 < len(held_out) < 100 and len(sums.train) == 300  # of 200 questions; training rows may repeat


def test_the_same_seed_gives_the_same_rows_whatever_python_hashes_sets_by(monkeypatch):
    """One of these walks over sets, the other draws from Python's global numbers."""
    for name in ("ransom_note", "list_functions"):
        made = []
        for seed in ("1", "2"):
            monkeypatch.setenv("PYTHONHASHSEED", seed)  # of an interpreter that is started without one of its own
            made.append(make_entries(name, {}, 6, 2, 3))
        assert made[0] == made[1] and len(made[0][0]) == 6


def test_several_tasks_share_the_rows_and_are_scored_each_by_its_own():
    task = reasoning_gym(["chain_sum", "gcd"], {"chain_sum": SMALL}, n_train=7, n_eval=4)
    assert task.train[0]["prompt"][0]["role"] == "system" and "<answer>" in task.train[0]["prompt"][0]["content"]
    assert [row["source"] for row in task.train] == ["chain_sum", "gcd"] * 3 + ["chain_sum"]
    rows = task.train + task.evaluation
    assert task.reward_funcs[1](completions=answers(rows), entry=numbers(rows)) == [1.0] * 11


def test_the_score_can_be_sent_to_a_worker_process():
    task = reasoning_gym("string_manipulation", n_train=2, n_eval=1)  # whose data set holds functions that cannot
    score = task.reward_funcs[1]
    before = score(completions=answers(task.train), entry=numbers(task.train))
    assert (
        pickle.loads(pickle.dumps(score))(completions=answers(task.train), entry=numbers(task.train))
        == before
        == [1.0] * 2
    )


@pytest.mark.parametrize("name", ["n_queens", "countdown"])
def test_what_a_model_writes_is_never_run(name, tmp_path):
    """The scorer of the first hands an answer to `eval`, that of the other to sympy's parser, which evaluates."""
    task = reasoning_gym(name, n_train=1, n_eval=0)
    there = tmp_path / "run"
    ways = [
        f"__import__('pathlib').Path({str(there)!r}).touch()",
        f"[__import__('pathlib').Path({str(there)!r}).touch()]",
        f"open({str(there)!r}, 'w')",
        "exec(chr(112))",
    ]
    score = task.reward_funcs[1]
    scores = score(completions=[f"<answer>{way}</answer>" for way in ways], entry=[0] * 4)
    assert not there.exists() and max(scores) < 0.1
    assert score(completions=answers(task.train), entry=[0]) == [1.0]


@pytest.mark.parametrize("text", ["3*x**2 + sin(2*x)/4 + C", "(3 + 4) * 5 - 1/2", "-1.5*exp(x)", "x^2 = 4"])
def test_expressions_are_read(text):
    assert is_expression(text)


@pytest.mark.parametrize(
    "text", ["().__class__", "x.real", "eval(1)", "open('x')", "f'{x}'", "[1]", "sin(x); x", "9" * 3000]
)
def test_what_is_more_than_an_expression_is_not(text):
    assert not is_expression(text)


def test_demonstrations_are_right_as_often_as_asked_and_only_of_training_questions(sums):
    rows = sums.demonstrations(400, 0)
    assert rows == sums.demonstrations(400, 0) != sums.demonstrations(400, 1)
    asked = {row["prompt"]: row for row in sums.train}
    assert {row["prompt"] for row in rows} <= set(asked)
    right = sums.reward_funcs[1](
        completions=[row["completion"] for row in rows], entry=[asked[row["prompt"]]["entry"] for row in rows]
    )
    assert 0.5 < sum(right) / 400 < 0.65  # half are right on purpose, some by chance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "chain_sun"}, "Did you mean 'chain_sum'"),
        ({"name": ["gcd", "gcd"]}, "list of different ones"),
        ({"settings": {"min_trems": 2}}, r"task.settings.min_trems.*Did you mean 'min_terms'"),
        ({"settings": {"min_terms": 5, "max_terms": 2}}, "refuses min_terms=5, max_terms=2: max_terms must be"),
        ({"name": ["gcd", "chain_sum"], "settings": {"min_terms": 2}}, "a mapping for each"),
        ({"n_train": 0}, "at least 1"),
        ({"extract": "tags"}, "Did you mean 'tag'"),
        ({"p_right": 2}, r"task.p_right=2 must lie"),
        ({"system_prompt": "s", "chat": False}, "needs chat prompts"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        reasoning_gym(**{"name": "chain_sum", "n_train": 2, "n_eval": 1, **settings})


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install reasoning-gym$"):
        reasoning_gym("chain_sum")


@pytest.mark.slow
def test_every_task_of_the_package_makes_rows_and_scores_its_own_answers():
    """About three minutes: all but `composite`, which is made of others."""
    from reasoning_gym.factory import DATASETS

    for name in sorted(set(DATASETS) - {"composite"}):
        task = reasoning_gym(name, n_train=4, n_eval=1)
        known = [row for row in task.train if row["answer"] is not None]
        scores = task.reward_funcs[1](completions=answers(known), entry=numbers(known))
        assert not known or sum(scores) > 0.5 * len(known), name
        assert (task.demonstrations is None) == (not known)  # a puzzle without a known answer is only scored
