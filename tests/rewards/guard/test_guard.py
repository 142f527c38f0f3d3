"""A guarded reward gives every row a number or None, counts what went wrong, and never hangs."""

import asyncio
import inspect
import logging
import math
import pickle
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.guard import Guard, check_failures, guard_of, guarded, is_async
from rewards.guard.failures import report_failure
from rewards.guard.verdict import FailureLimit, RewardStop, checked
from rewards.text.spans import Span
from support import reward_samples as samples

LIMITS = {"timeout": 0.4, "row_timeout": 0.2, "max_failed_share": 1.0}
BAD = {
    "raise": "exception",
    "exit": "exception",
    "odd": "exception",
    "hang": "timeout",
    "nan": "not_finite",
    "inf": "not_finite",
    "huge": "not_finite",
    "text": "wrong_type",
    "list": "wrong_type",
}


def scored(reward, texts, **columns):
    return reward(prompts=[""] * len(texts), completions=texts, **columns)


def test_good_results_pass_unchanged_and_the_name_stays():
    reward = guarded(samples.lengths)
    assert reward.__name__ == "lengths"
    assert scored(reward, ["a", "bb", ""]) == [1.0, 2.0, 0.0]
    assert (reward.counts.rows, reward.counts.failed, reward.counts.abstained) == (3, 0, 0)


def test_an_empty_call_gives_an_empty_list():
    assert scored(guarded(samples.lengths), []) == []


@pytest.mark.parametrize("text", BAD)
def test_one_bad_row_becomes_none_and_costs_the_others_nothing(text):
    reward = guarded(samples.behaves, **LIMITS)
    assert scored(reward, ["ab", text, "none", "abc"]) == [2.0, None, None, 3.0]
    assert getattr(reward.counts, BAD[text]) == reward.counts.failed == 1
    assert reward.counts.abstained == 1


@pytest.mark.parametrize("text", [text for text in BAD if text != "hang"] + ["hang"])
def test_the_same_holds_for_async_functions(text):
    reward = guarded(samples.behaves_async, **LIMITS)
    assert inspect.iscoroutinefunction(reward) and is_async(reward) and reward.__name__ == "behaves_async"
    assert asyncio.run(reward(prompts=[""] * 3, completions=["ab", text, "abc"])) == [2.0, None, 3.0]
    assert getattr(reward.counts, BAD[text]) == 1
    assert guard_of(reward).counts is reward.counts


def test_sys_exit_in_a_task_of_an_async_function_is_one_failed_row_and_leaves_the_loop_alive():
    reward = guarded(samples.exits_in_a_task, timeout=20, max_failed_share=1.0)
    started = time.monotonic()
    assert asyncio.run(reward(prompts=[""] * 3, completions=["ab", "exit", "abc"])) == [2.0, None, 3.0]
    assert reward.counts.exception == 1 and time.monotonic() - started < 15


def test_ctrl_c_is_no_failure_of_the_reward():
    reward = guarded(samples.interrupts)
    with pytest.raises(KeyboardInterrupt):
        scored(reward, ["a", "b"])
    assert reward.counts.rows == 0


@pytest.mark.parametrize("text", ["spin", "swallow"])
def test_a_python_loop_that_swallows_exceptions_is_interrupted(text):
    reward = guarded(samples.behaves, **LIMITS)
    assert scored(reward, ["ab", text]) == [2.0, None]


def test_catastrophic_re_is_interrupted_on_the_main_thread():
    import re

    def backtracks(completions, **columns):
        return [float(bool(re.fullmatch(r"(a|aa)+$", text))) for text in completions]

    started = time.monotonic()
    assert scored(guarded(backtracks, **LIMITS), ["aa", "a" * 60 + "b"]) == [1.0, None]
    assert time.monotonic() - started < 30


def test_off_the_main_thread_a_hanging_row_is_left_behind():
    reward, results = guarded(samples.behaves, **LIMITS), []
    thread = threading.Thread(target=lambda: results.append(scored(reward, ["ab", "hang", "abc"])))
    thread.start()
    thread.join(20)
    assert results == [[2.0, None, 3.0]]


def test_an_async_function_that_blocks_its_loop_is_left_behind():
    async def blocks(completions, **columns):
        return samples.behaves(None, completions)

    reward = guarded(blocks, **{**LIMITS, "timeout": 3.0})
    assert asyncio.run(reward(completions=["ab", "hang", "abc"])) == [2.0, None, 3.0]


def test_the_clock_survives_a_function_with_its_own_alarm():
    def own_alarm(completions, **columns):
        previous = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.alarm(5)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        return samples.behaves(None, completions)

    assert scored(guarded(own_alarm, **LIMITS), ["ab", "hang"]) == [2.0, None]


def test_an_outer_alarm_is_put_back():
    def outer(signum, frame): ...

    before = signal.signal(signal.SIGALRM, outer)
    signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        scored(guarded(samples.lengths), ["a"])
        assert signal.getsignal(signal.SIGALRM) is outer
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_many_hanging_rows_take_no_longer_than_twice_the_timeout():
    reward = guarded(samples.behaves, timeout=0.6, row_timeout=0.2, max_failed_share=1.0)
    started = time.monotonic()
    assert scored(reward, ["hang"] * 50) == [None] * 50
    assert time.monotonic() - started < 10
    assert reward.counts.timeout == 50


@given(st.lists(st.sampled_from(["a", "bb", "none", "raise", "nan", "inf", "text", "list", "huge"]), max_size=30))
@settings(deadline=None, max_examples=60)
def test_guarding_is_scoring_each_row_alone(texts):
    reward = guarded(samples.behaves, max_failed_share=1.0)
    expected = [float(len(text)) if text in ("a", "bb") else None for text in texts]
    assert scored(reward, texts) == expected
    counts = reward.counts
    assert counts.rows == len(texts) == sum(e is not None for e in expected) + counts.failed + counts.abstained


def test_columns_are_cut_with_the_rows_and_the_rest_is_passed_whole():
    seen = []

    def picky(prompts, completions, answer, trainer_state, **columns):
        seen.append((prompts, completions, answer, trainer_state))
        if "raise" in completions:
            raise KeyError("x")
        return [float(text == a) for text, a in zip(completions, answer, strict=True)]

    reward = guarded(picky, max_failed_share=1.0)
    assert reward(prompts=["p", "q"], completions=["1", "raise"], answer=["1", "2"], trainer_state=[7, 8]) == [
        1.0,
        None,
    ]
    assert seen[1] == (["p"], ["1"], ["1"], [7, 8]) and seen[2] == (["q"], ["raise"], ["2"], [7, 8])


@pytest.mark.parametrize("result", [[1.0], [1.0] * 3, 1.0, None, "ab", {0: 1.0}])
def test_a_wrong_number_of_results_stops_with_the_reason(result):
    def odd(completions, **columns):
        return result

    with pytest.raises(RewardStop, match=r"odd.*must return"):
        scored(guarded(odd), ["a", "b"])


def test_tuples_arrays_and_tensors_are_lists():
    torch = pytest.importorskip("torch")

    def tensor(completions, **columns):
        return torch.tensor([float(len(text)) for text in completions])

    assert scored(guarded(tensor), ["a", "bb"]) == [1.0, 2.0]
    assert scored(guarded(lambda completions, **_: tuple(True for _ in completions)), ["a"]) == [1.0]
    assert scored(guarded(lambda completions, **_: [torch.tensor(2.0)]), ["a"]) == [2.0]


@settings(deadline=None)
@given(st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(), st.binary(), st.complex_numbers()))
def test_a_kept_value_is_finite_in_float32(value):
    number, kind = checked(value)
    assert number is None or abs(number) <= 3.4028234663852886e38
    assert (number is None) == (kind is not None or value is None)
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 1e38:
        assert number == value


def test_too_many_failures_stop_the_run_with_counts_and_remedy():
    reward = guarded(samples.behaves, max_failed_share=0.25, window=8)
    assert scored(reward, ["a", "nan", "raise"])[1:] == [None, None]
    with pytest.raises(RewardStop, match=r"'behaves' fails too often: 3 of 6 rows.*max_failed_share"):
        scored(reward, ["a", "a", "nan"])


def test_reporting_instead_of_raising_stops_all_processes_together():
    reward = guarded(samples.behaves, max_failed_share=0.0, window=1, on_limit="report")
    fine = guarded(samples.lengths, on_limit="report")
    assert scored(reward, ["a", "nan"]) == [None, None]
    check_failures([fine, samples.lengths])
    with pytest.raises(RewardStop, match="fails too often"):
        check_failures([fine, samples.lengths], gather=lambda mine: [*mine, reward.stop_reason])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=20), st.floats(0, 1), st.integers(1, 50))
def test_the_limit_looks_at_the_last_calls_that_fill_the_window(calls, share, window):
    limit, rows = FailureLimit(share, window), []
    for size, failed in calls:
        failed = min(failed, size)
        rows.append((size, failed))
        kept = []
        for call in reversed(rows):
            kept.append(call)
            if sum(size for size, _ in kept) >= window:
                break
        seen, bad = (sum(column) for column in zip(*kept, strict=True))
        assert limit.exceeded(size, failed) == (bad > share * max(seen, window))


def test_failures_a_function_reports_itself_are_counted():
    def reports(completions, **columns):
        report_failure(1, "timeout", "too slow")
        return [1.0, 5.0]

    reward = guarded(reports)
    assert scored(reward, ["a", "b"]) == [1.0, None]
    assert reward.counts.timeout == 1


def test_reported_failures_keep_their_row_when_rows_are_called_alone(caplog):
    def reports(completions, **columns):
        if len(completions) > 1:
            raise RuntimeError
        if completions == ["slow"]:
            report_failure(0, "timeout", "too slow")
        return [1.0]

    assert scored(guarded(reports), ["a", "b", "slow"]) == [1.0, 1.0, None]
    assert "failed on row 2 (timeout: too slow)" in caplog.text


class Log:
    def __init__(self):
        self.extra, self.metrics = {}, {}

    def log_extra(self, column, values):
        self.extra.setdefault(column, []).extend(values)

    def log_metric(self, name, value):
        self.metrics.setdefault(name, []).append(value)

    def callbacks(self):
        return {"log_extra": self.log_extra, "log_metric": self.log_metric}


def test_the_failed_share_is_logged_on_every_call():
    reward, log = guarded(samples.behaves, max_failed_share=1.0), Log()
    scored(reward, ["a", "b"], **log.callbacks())
    scored(reward, ["a", "nan"], **log.callbacks())
    assert log.metrics == {"rewards/behaves/failed": [0.0, 0.5]}


def test_what_the_function_logs_arrives_once_and_row_by_row_after_a_failure():
    def logs(completions, log_extra, log_metric, **columns):
        log_extra("seen", list(completions))
        log_metric("length", sum(map(len, completions)) / len(completions))
        return samples.behaves(None, completions)

    reward, log = guarded(logs, max_failed_share=1.0), Log()
    scored(reward, ["a", "raise", "ccc"], **log.callbacks())
    assert log.extra == {"seen": ["a", None, "ccc"]}
    assert log.metrics == {"rewards/logs/failed": [1 / 3], "length": [2.0]}
    scored(reward, ["raise"], **log.callbacks())
    assert len(log.metrics["length"]) == 2 and math.isnan(log.metrics["length"][1])


def test_the_first_traceback_is_shown_once(caplog):
    reward = guarded(samples.behaves, max_failed_share=1.0)
    with caplog.at_level(logging.WARNING, "rewards"):
        for _ in range(3):
            scored(reward, ["a", "raise", "nan"])
    assert caplog.text.count("Traceback") == 1 and caplog.text.count("not_finite") == 1


def test_spans_are_guarded_too():
    def reward(completions, **columns):
        return [1.0 for _ in completions]

    def spans(prompts, completions, **columns):
        if "raise" in completions:
            raise RuntimeError
        return [[(0, 1, float("nan"))] if text == "nan" else [(0, len(text), 1.0)] for text in completions]

    reward.spans = spans
    guard = guarded(reward)
    assert guard.spans(["", "", ""], ["ab", "raise", "nan"]) == [[Span(0, 2, 1.0)], None, None]
    assert not hasattr(guarded(samples.lengths), "spans")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"timeout": 0}, "timeout"),
        ({"row_timeout": -1}, "row_timeout"),
        ({"workers": -1}, "workers"),
        ({"max_failed_share": 2}, "max_failed_share"),
        ({"window": 0}, "window"),
        ({"on_limit": "ignore"}, "on_limit"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        guarded(samples.lengths, **options)


def test_guarding_twice_and_guarding_no_function_are_refused():
    with pytest.raises(ValueError, match="already"):
        guarded(guarded(samples.lengths))
    with pytest.raises(ValueError, match="callable"):
        guarded(3)


def test_a_guard_survives_pickling():
    reward = pickle.loads(pickle.dumps(guarded(samples.lengths)))
    assert isinstance(reward, Guard) and scored(reward, ["abc"]) == [3.0]


def test_a_guarded_async_reward_speaks_of_turns_too_and_says_whether_it_knows_them():
    class Judge:
        knows_turns = True

        async def __call__(self, prompts, completions, **columns):
            return [1.0 for _ in completions]

        def turn_rewards(self, prompts, completions, **columns):
            return [{0: 1.0} for _ in completions]

    reward = guarded(Judge(), name="judge")
    assert reward.turn_rewards(["p"], ["c"]) == [{0: 1.0}] and reward.knows_turns
