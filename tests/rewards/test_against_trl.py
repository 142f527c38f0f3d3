"""Where TRL has the same reward, ours gives the same number; and stock GRPOTrainer takes ours."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.compose import cosine_by_length
from rewards.format import regex_format
from rewards.guard import guarded
from rewards.maths import math_equal
from rewards.shape import repetition, soft_overlong
from support.text_strategies import mixed

trl_rewards = pytest.importorskip("trl.rewards")

IDS = st.lists(st.lists(st.integers(0, 5), max_size=40), min_size=1, max_size=4)
ANSWERS = [r"\boxed{\frac{1}{2}}", r"$\boxed{0.5}$", r"\boxed{x^2}", "The final answer is $3$.", r"\boxed{", "5", ""]
SOLUTIONS = [r"\frac{1}{2}", "$x^2$", "3", "no mathematics at all"]
PAIRS = [(answer, solution) for answer in ANSWERS for solution in SOLUTIONS]


def conversations(texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


@given(st.lists(mixed, min_size=1, max_size=4))
@example(["<think>a</think>b", "x\n<think>a</think>", "<think><think></think>", "<think>\n</think>"])
@settings(deadline=None)
def test_the_think_format(texts):
    ours = regex_format(r"<think>(?!.*<think>)(.*?)</think>.*", flags="DOTALL|MULTILINE")
    completions = conversations(texts)
    assert ours(prompts=None, completions=completions) == trl_rewards.think_format_reward(completions)


def test_mathematical_accuracy_where_trl_has_a_verdict():
    """TRL abstains where math-verify cannot parse the reference; ours compares such texts as texts."""
    completions, solution = conversations([text for text, _ in PAIRS]), [gold for _, gold in PAIRS]
    ours = math_equal(column="solution", timeout=300)(prompts=None, completions=completions, solution=solution)
    theirs = trl_rewards.accuracy_reward(completions, solution)
    assert ours == [0.0 if score is None else score for score in theirs]
    assert {None, 0.0, 1.0} == set(theirs)


@given(IDS, st.integers(1, 40), st.data())
@settings(deadline=None)
def test_the_soft_overlong_punishment(ids, longest, data):
    cache = data.draw(st.integers(0, longest))
    ours = soft_overlong(longest, cache)(prompts=None, completions=[""] * len(ids), completion_ids=ids)
    assert ours == trl_rewards.get_soft_overlong_punishment(longest, cache)(completion_ids=ids)


@pytest.mark.skipif(not hasattr(trl_rewards, "get_repetition_penalty_reward"), reason="this TRL has none")
@given(IDS, st.integers(1, 5), st.floats(-3, 0))
@settings(deadline=None)
def test_the_repetition_penalty(ids, ngram, penalty):
    ours = repetition(ngram, max_penalty=penalty)(prompts=None, completions=[""] * len(ids), completion_ids=ids)
    assert ours == trl_rewards.get_repetition_penalty_reward(ngram, penalty)(completion_ids=ids)


@pytest.mark.skipif(not hasattr(trl_rewards, "get_cosine_scaled_reward"), reason="this TRL has none")
@pytest.mark.parametrize("longest", [1, 7, 40])
def test_the_cosine_by_length(longest):
    completions, solution = conversations([text for text, _ in PAIRS]), [gold for _, gold in PAIRS]
    columns = {"solution": solution, "completion_ids": [[0] * (3 * row % 50) for row in range(len(PAIRS))]}
    right = math_equal(column="solution", timeout=300)
    ours = cosine_by_length(right, longest)(prompts=None, completions=completions, **columns)
    theirs = trl_rewards.get_cosine_scaled_reward(longest)(completions=completions, **columns)
    told = [row for row, value in enumerate(theirs) if value is not None]  # see mathematical accuracy
    assert len(told) == 21
    assert [ours[row] for row in told] == pytest.approx([theirs[row] for row in told], abs=1e-12)


def test_trls_own_rewards_work_under_the_guard():
    completions = conversations([r"<think>a</think>\boxed{3}", "x"])
    columns = {
        "prompts": [""] * 2,
        "completions": completions,
        "completion_ids": [[1] * 90, [1]],
        "solution": ["3", "3"],
    }
    assert guarded(trl_rewards.think_format_reward)(**columns) == [1.0, 0.0]
    assert guarded(trl_rewards.accuracy_reward)(**columns) == [1.0, 0.0]
    overlong = guarded(trl_rewards.get_soft_overlong_punishment(100, 20))
    assert overlong(**columns) == [-0.5, 0.0] and overlong.__name__ == "soft_overlong_punishment_reward"


def test_mathematics_works_off_the_main_thread():
    import threading

    found = []
    reward = guarded(math_equal())
    call = {"prompts": [""], "completions": [r"\boxed{\frac{2}{4}}"], "answer": ["0.5"]}
    thread = threading.Thread(target=lambda: found.append(reward(**call)))
    thread.start()
    thread.join(60)
    assert found == [[1.0]] and not math.isnan(found[0][0])
