"""`Task` refuses what would silently spoil a run."""

import pytest

from tasks.base import Task, prompt_key


def reward(completions, **_):
    return [0.0] * len(completions)


def make(train=("a", "b"), evaluation=("c",), funcs=(reward,), weights=(1.0,)):
    rows = [[{"prompt": prompt} for prompt in prompts] for prompts in (train, evaluation)]
    return Task("mine", *rows, list(funcs), list(weights))


def test_a_prompt_in_train_and_evaluation_is_refused():
    with pytest.raises(ValueError, match="both train and evaluation"):
        make(train=("a", "b"), evaluation=("b",))


def test_a_chat_prompt_in_both_is_found_whatever_object_it_is():
    chat = [{"role": "user", "content": "hello"}]
    with pytest.raises(ValueError, match="both train and evaluation"):
        make(train=(chat, "x"), evaluation=([dict(chat[0])],))


def test_a_task_with_a_single_prompt_may_evaluate_on_it():
    assert make(train=("a", "a"), evaluation=("a",)).evaluation == [{"prompt": "a"}]


def test_no_training_rows_is_refused():
    with pytest.raises(ValueError, match="no training rows"):
        make(train=())


def test_weights_must_pair_with_rewards():
    with pytest.raises(ValueError, match="one weight per function"):
        make(weights=(1.0, 2.0))


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(ValueError, match="must differ"):
        make(funcs=(reward, reward), weights=(1.0, 1.0))


def test_a_row_without_a_prompt_is_refused():
    with pytest.raises(ValueError, match='no "prompt"'):
        Task("mine", [{"question": "?"}], [], [reward], [1.0])


def test_prompt_key_tells_roles_apart():
    assert prompt_key([{"role": "user", "content": "a"}]) != prompt_key([{"role": "system", "content": "a"}])


@pytest.mark.parametrize("name", ["self", "completions", "log_metric"])
def test_a_column_whose_name_trl_takes_is_refused_in_any_task(name):
    with pytest.raises(ValueError, match=f"rename the column '{name}'"):
        Task("mine", [{"prompt": "a"}, {"prompt": "b", name: 1}], [], [reward], [1.0])
