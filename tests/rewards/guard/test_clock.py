"""Nothing of a time limit outlives its call, also where the call ends just as its time is up."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest

from rewards.guard.clock import run_within

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="limits are by thread here")


def _busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_call_that_ends_as_its_time_is_up_leaves_no_timer_and_no_handler():
    """A timer left behind would interrupt the training later, or, without our handler, end the process."""
    before = signal.getsignal(signal.SIGALRM)
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)  # of a plugin that limits tests
    try:
        for _ in range(1500):
            with contextlib.suppress(TimeoutError):
                run_within(0.0005, lambda: _busy(0.00045))
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
            assert signal.getsignal(signal.SIGALRM) is before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left, interval)


def test_the_limit_of_an_outer_call_goes_on_behind_an_inner_one():
    def outer():
        run_within(5, lambda: None)
        _busy(5)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run_within(0.05, outer)
    assert time.monotonic() - started < 4
