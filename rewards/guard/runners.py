"""Three ways to make the calls of a round: here, in worker processes, on an event loop. Each gives one entry per call,
an `Outcome` or the error that ended it (`TimeoutError` where it took too long)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rewards.guard.clock import run_within
from rewards.guard.failures import collected_failures
from rewards.guard.sheet import Logs, Outcome, Values
from rewards.guard.verdict import RewardStop
from rewards.guard.workers import WorkerPool

Entry = Outcome | BaseException
_TOGETHER = 16  # rows of an async function that are awaited at the same time
_GRACE = 1.0  # seconds an event loop may be late


def run_here(func: Callable, calls: list[Values], seconds: float | None, total: float | None) -> list[Entry]:
    """One call after the other in this process, each for at most `seconds`, all for at most `total`."""
    left = _countdown(total)
    return [_caught(func, call, _shorter(seconds, left())) for call in calls]


def run_in_workers(
    pool: WorkerPool, calls: list[Values], seconds: float | None, total: float | None, method: str = "__call__"
) -> list[Entry]:
    """All calls at once, on as many processes as the pool has."""
    left = _countdown(total)
    futures = [pool.submit(call, seconds, method) for call in calls]
    return [_waited(future, left()) for future in futures]


class LoopThread:
    """An event loop in a thread of its own for one async function, so that a function which blocks the loop (a plain
    `time.sleep` in an `async def`) stalls nothing else; a blocked loop is left behind and replaced."""

    def __init__(self):
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_blocked = False

    def __getstate__(self):
        return {"_loop": None, "_was_blocked": False}

    async def run(self, func: Callable, calls: list[Values], seconds: float | None, total: float | None) -> list[Entry]:
        """Some calls at a time; one at a time after a call has blocked the loop."""
        left, entries = _countdown(total), []
        while len(entries) < len(calls):
            some = calls[len(entries) :][: 1 if self._was_blocked else _TOGETHER]
            limit = _shorter(seconds, left())
            future = asyncio.run_coroutine_threadsafe(_together(func, some, limit), self._running())
            try:
                patience = None if limit is None else limit + _GRACE
                entries += await asyncio.wait_for(asyncio.wrap_future(future), patience)
            except (asyncio.TimeoutError, TimeoutError):
                self._was_blocked = True
                self.close()
                entries += [TimeoutError(f"blocked its event loop for {limit:g} s") for _ in some]
        return entries

    def close(self) -> None:
        """Ends the loop, as soon as what it runs lets it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), daemon=True, name="async reward").start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
            break
        except BaseException:  # a task the function had made called sys.exit(): that task's error, not the loop's end
            continue
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with suppress(BaseException):
        loop.run_until_complete(asyncio.sleep(0.01))  # lets them end, else asyncio complains about each
    loop.close()


async def _together(func: Callable, calls: list[Values], seconds: float | None) -> list[Entry]:
    async def once(call: Values) -> Entry:
        logs = Logs()
        with collected_failures() as failures:
            try:
                return Outcome(await func(**logs.stand_in(call)), failures, logs)
            except GeneratorExit:
                raise
            except BaseException as error:  # sys.exit() too: this is not the main thread, nobody else asked for it
                return error

    tasks = [asyncio.ensure_future(once(call)) for call in calls]
    done, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()  # and not awaited: a task may refuse to end
    return [task.result() if task in done else TimeoutError(f"no result after {seconds:g} s") for task in tasks]


def _caught(func: Callable, call: Values, seconds: float | None) -> Entry:
    if seconds is not None and seconds <= 0:
        return _no_time()
    logs = Logs()
    with collected_failures() as failures:
        try:
            return Outcome(run_within(seconds, lambda: func(**logs.stand_in(call))), failures, logs)
        except (RewardStop, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() in a reward would end one process and leave the others waiting
            return error


def _waited(future: concurrent.futures.Future, seconds: float | None) -> Entry:
    if seconds is not None and seconds <= 0 and not future.done():
        future.cancel()
        return _no_time()
    try:
        return future.result(seconds)
    except (TimeoutError, concurrent.futures.TimeoutError):  # two classes on Python 3.10
        future.cancel()
        return TimeoutError("killed: no result in time")
    except Exception as error:
        return error
    except BaseException as error:
        if future.done() and not future.cancelled() and future.exception() is error:
            return error  # what the function raised, KeyboardInterrupt included: workers get no Ctrl-C
        raise


def _no_time() -> TimeoutError:
    return TimeoutError("no time left in this batch, the rows before it took all of it")


def _countdown(total: float | None) -> Callable[[], float | None]:
    started = time.monotonic()
    return lambda: None if total is None else total - (time.monotonic() - started)


def _shorter(a: float | None, b: float | None) -> float | None:
    return min((limit for limit in (a, b) if limit is not None), default=None)
