"""Worker processes stop what nothing in this process can: C code that never returns, and crashes."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rewards.build import resolve_rewards
from rewards.guard import guard_of, guarded
from rewards.guard.verdict import RewardStop
from rewards.load import load_reward

SAMPLES = str(Path(__file__).parents[2] / "support" / "reward_samples.py")


@pytest.fixture
def pooled():
    guards = []

    def make(name, **options):
        guards.append(guarded(load_reward(f"{SAMPLES}:{name}"), max_failed_share=1.0, **options))
        return guards[-1]

    yield make
    for guard in guards:
        guard_of(guard).close()


def scored(reward, texts, **columns):
    return reward(prompts=[""] * len(texts), completions=texts, **columns)


def test_a_row_stuck_in_c_code_costs_its_timeout_and_the_pool_is_reused(pooled):
    reward = pooled("behaves", workers=1, timeout=4.0, row_timeout=0.5)
    started = time.monotonic()
    assert scored(reward, ["ab", "stuck", "raise", "abc"]) == [2.0, None, None, 3.0]
    assert time.monotonic() - started < 40
    assert (reward.counts.timeout, reward.counts.exception) == (1, 1)
    pool = reward._pool._pool
    assert scored(reward, ["abcd"]) == [4.0]
    assert reward._pool._pool is pool


def test_a_crash_of_the_process_is_one_failed_row(pooled):
    reward = pooled("behaves_alone", workers=1, timeout=30, row_timeout=20)
    assert scored(reward, ["ab", "crash", "abc"]) == [2.0, None, 3.0]
    assert reward.counts.exception == 1


def test_what_ends_a_worker_from_inside_python_is_one_failed_row(pooled):
    texts = ["ab", "exit", "odd", "abc"]
    assert scored(pooled("behaves", workers=1, timeout=60), texts) == [2.0, None, None, 3.0]
    assert scored(pooled("interrupts", workers=1, timeout=60), ["a"]) == [None]


SLOW_TO_IMPORT = """
import multiprocessing, time
from support.reward_samples import behaves

if multiprocessing.parent_process() is not None:
    time.sleep(2)

class Fixed:
    def __init__(self, value):
        self.value = value
    def __call__(self, prompts, completions, **columns):
        return [self.value for _ in completions]

fixed = Fixed(2.0)
"""


@pytest.fixture
def slow_file(tmp_path):
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT)
    return tmp_path / "slow_to_import.py"


def test_what_a_file_imports_is_not_on_the_clock_of_a_row(slow_file):
    reward = guarded(load_reward(f"{slow_file}:behaves"), workers=1, timeout=60, row_timeout=1.0, max_failed_share=1.0)
    try:
        # The second row is killed, and the third waits for a new process.
        assert scored(reward, ["raise", "ab", "stuck", "abc"]) == [None, 2.0, None, 3.0]
    finally:
        reward.close()


def test_an_object_of_a_class_in_a_file_reaches_a_worker(slow_file):
    target = {"_target_": f"{slow_file}:Fixed", "value": 3.0}
    for entry, value in ((f"{slow_file}:fixed", 2.0), (target, 3.0)):
        reward = guarded(resolve_rewards([entry])[0], workers=1, max_failed_share=1.0)
        try:
            assert scored(reward, ["a"]) == [value]
        finally:
            reward.close()


def test_two_workers_and_async_functions_give_the_same_scores(pooled):
    texts = ["a" * length for length in range(9)] + ["nan"]
    expected = [float(length) for length in range(9)] + [None]
    assert scored(pooled("behaves", workers=2), texts) == expected
    asynchronous = pooled("behaves_async", workers=1)
    assert asyncio.run(asynchronous(prompts=texts, completions=texts)) == expected


def test_logs_and_plain_trainer_state_cross_the_process(pooled):
    logged = {}
    reward = pooled("logs_state", workers=1)
    state = SimpleNamespace(global_step=7, hooks=[lambda: None])
    assert scored(reward, ["a"], trainer_state=state, log_metric=logged.__setitem__) == [7.0]
    assert logged["step"] == 7.0


def test_a_function_that_cannot_be_sent_is_refused_before_the_run():
    with pytest.raises(ValueError, match=r"file\.py:function, or use workers=0"):
        guarded(lambda completions, **columns: [], workers=1)


def test_arguments_that_cannot_be_sent_stop_with_the_remedy(pooled):
    with pytest.raises(RewardStop, match="workers=0"):
        scored(pooled("behaves", workers=1), ["a"], judge=[lambda: None])


def test_a_worker_does_not_import_the_training_script(pooled):
    import pytest as script  # what runs this process, and what a plain process would import again

    assert scored(pooled("modules", workers=1), [script.__name__, "rewards.guard.workers"]) == [0.0, 1.0]
