"""Worker processes stop what nothing in this process can: C code that never returns, and crashes."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from rewards.guard import guard_of, guarded
from rewards.load import load_reward
from rewards.verdict import RewardStop

SAMPLES = __file__.replace("test_workers.py", "reward_samples.py")


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

    assert scored(pooled("modules", workers=1), [script.__name__, "rewards.workers"]) == [0.0, 1.0]
