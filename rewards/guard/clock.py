"""Running a Python call for at most so many seconds, in this process.

What this can stop: Python code, sleeping, waiting for a socket or a child process, and matching by `re` (it looks for
signals). What it cannot stop: other C code that neither returns nor lets go of the interpreter; use worker processes
(rewards/guard/workers.py) for such functions.
"""

from __future__ import annotations

import contextvars
import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_AGAIN = 0.25  # seconds between repeated interruptions, for code that swallowed one with a bare `except`


class OutOfTime(BaseException):
    """Interrupts the call. Not an `Exception`, so that `except Exception` inside the call does not swallow it."""


def run_within(seconds: float | None, call: Callable[[], Result]) -> Result:
    """`call()`, interrupted after `seconds` (None: never).

    On the main thread of a Unix process a signal interrupts the call where it stands. Elsewhere the call runs in a
    helper thread that is left behind, asked to end, when the time is up.

    Raises:
        TimeoutError: the time is up.
    """
    if seconds is None:
        return call()
    on_main = threading.current_thread() is threading.main_thread()
    by_signal = on_main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None
    try:
        return (_with_signal if by_signal else _with_thread)(seconds, call)
    except OutOfTime:
        raise TimeoutError(f"no result after {seconds:g} s") from None


def _with_signal(seconds: float, call: Callable[[], Result]) -> Result:
    running = True
    rearming = threading.Lock()  # else a timer could be set again behind the end, when nobody handles it any more

    def expire(signum, frame):
        if running:
            raise OutOfTime

    def rearm():
        # Code that uses SIGALRM itself (math-verify, TRL's accuracy_reward) stops our timer when it is done.
        with rearming:
            if running:
                signal.setitimer(signal.ITIMER_REAL, 0.01, _AGAIN)

    started = time.monotonic()
    backup = threading.Timer(seconds + _AGAIN, rearm)
    backup.daemon = True
    backup.start()
    outer_handler = signal.signal(signal.SIGALRM, expire)
    outer_left, outer_interval = 0.0, 0.0
    try:
        # An interruption that comes when the call has just ended hits `running = False` at the latest; what puts things
        # back stands behind it, where the next interruption is _AGAIN seconds away.
        try:
            outer_left, outer_interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
            return call()
        finally:
            running = False
    finally:
        running = False
        with rearming:
            backup.cancel()
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer_handler)
        if outer_left:
            left = max(outer_left - (time.monotonic() - started), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, left, outer_interval)


def _with_thread(seconds: float, call: Callable[[], Result]) -> Result:
    outcome: list = []

    def target():
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(target,), daemon=True, name="reward")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(OutOfTime))
        raise OutOfTime
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    return value
