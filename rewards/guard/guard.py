"""A guard round a reward function: whatever the function does, every row gets a number or None, and it is counted.

    reward = guarded(polite, timeout=60)
    GRPOTrainer(reward_funcs=[reward], ...)          # stock TRL takes it like any other function

An exception, a timeout, NaN or inf, or an entry of the wrong type becomes None for the row concerned. A call that
raises or takes too long is made again row by row, to find the rows concerned. What this process cannot stop, and what
worker processes are for: rewards/guard/clock.py, rewards/guard/workers.py.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rewards.guard import clock, runners
from rewards.guard.failures import Failure
from rewards.guard.runners import LoopThread, run_here, run_in_workers
from rewards.guard.sheet import Sheet
from rewards.guard.verdict import Counts, FailureLimit, RewardStop, checked
from rewards.guard.workers import WorkerPool
from rewards.load import load_reward
from rewards.text.spans import Span

_log = logging.getLogger("rewards")
ON_LIMIT = ("raise", "report")


def guarded(
    func: Callable | str,
    *,
    name: str | None = None,
    timeout: float | None = 120.0,
    row_timeout: float | None = 10.0,
    workers: int = 0,
    max_failed_share: float = 0.5,
    window: int = 64,
    on_limit: str = "raise",
) -> Callable:
    """The function, guarded; same `__name__`, still async where it was async.

    Args:
        func: a reward function in TRL's signature, sync or async, or its name (rewards/load.py).
        name: its name in logs; None: its own.
        timeout: seconds one call on all rows of a process may take (None: no limit). Where it is reached, or the call
            raises, the rows are called one by one and may together take as long again, so a batch is over after twice
            this time. Keep it well under the timeout of the process group (10 minutes for NCCL).
        row_timeout: seconds one row may take when called alone.
        workers: 0, run in this process; n, run in n worker processes that are killed when time is up. With n > 1 the
            function sees n slices of the batch instead of the whole.
        max_failed_share: more failed rows than this share among the last `window` rows of a process stop the run.
        window: how many rows of a process `max_failed_share` looks back on.
        on_limit: "raise" stops this process at once; the launcher (torchrun, accelerate) then ends the others.
            "report" sets `stop_reason` and scores nothing; `check_failures` then stops all processes together.

    Returns:
        A `Guard`, or an async function whose attribute `guard` is one; see `guard_of`.

    Raises:
        ValueError: an option out of range, a function that is none, is guarded already, or cannot go to a worker.
    """
    func = load_reward(func) if isinstance(func, str) else func
    if not callable(func):
        raise ValueError(f"A reward must be callable, got {type(func).__name__}.")
    if guard_of(func) is not None:
        raise ValueError(f"Reward {callable_name(func)!r} is guarded already.")
    if on_limit not in ON_LIMIT:
        raise ValueError(f"on_limit={on_limit!r} is not one of {', '.join(ON_LIMIT)}.")
    if workers < 0 or workers != int(workers):
        raise ValueError(f"workers={workers} must be a number of processes, or 0 for this process.")
    for option, value in (("timeout", timeout), ("row_timeout", row_timeout)):
        if value is not None and not value > 0:
            raise ValueError(f"{option}={value} must be positive seconds, or null for no limit.")
    guard = Guard(
        func,
        name or callable_name(func),
        timeout=timeout,
        row_timeout=row_timeout,
        workers=int(workers),
        limit=FailureLimit(max_failed_share, window),
        on_limit=on_limit,
    )
    return _async_function(guard) if is_async(func) else guard


class Guard:
    """A guarded function; callable like it. Made by `guarded`.

    Attributes:
        counts: `Counts` over the life of the guard, on this process.
        last_failed: rows of the last call that failed, and the kind of failure.
        stop_reason: why the run should stop, or None; set under `on_limit="report"`.
        spans, turn_rewards: companion methods (rewards/text/spans.py, turns.py), guarded too; only where the function has them.
        knows_turns: the function's own (trainers/seam/by_turn.py); only beside `turn_rewards`.
    """

    def __init__(
        self,
        func: Callable,
        name: str,
        *,
        timeout: float | None,
        row_timeout: float | None,
        workers: int,
        limit: FailureLimit,
        on_limit: str,
    ):
        self.func, self.__name__, self.timeout, self.row_timeout = func, name, timeout, row_timeout
        self.on_limit, self.counts, self.stop_reason = on_limit, Counts(), None
        self.last_failed: dict[int, str] = {}
        self._limit = limit
        self._pool = WorkerPool(func, name, workers) if workers else None
        self._loop = LoopThread()
        self._told: set[str] = set()
        self._metrics_seen: set[str] = set()
        if callable(getattr(func, "spans", None)):
            self.spans = self._spans
        if callable(getattr(func, "turn_rewards", None)):
            self.turn_rewards = self._turn_rewards
            self.knows_turns = getattr(func, "knows_turns", False) is True

    def __call__(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list[float | None]:
        """One number or None per completion.

        Raises:
            RewardStop: wrong number of results, or the limit on the failed share is passed (`on_limit="raise"`).
        """
        sheet = self._sheet(prompts, completions, columns)
        try:
            for seconds in self._rounds(sheet):
                sheet.take(self._run(self.func, "__call__", sheet.calls(), seconds))
        except RewardStop as stop:
            return self._stop(str(stop), sheet.rows)
        return self._verdict(sheet)

    async def call_async(
        self, prompts: list | None = None, completions: Sequence = (), **columns: Any
    ) -> list[float | None]:
        """The same, awaited, for an async function."""
        if self._pool is not None:
            return await asyncio.to_thread(self, prompts, completions, **columns)
        sheet = self._sheet(prompts, completions, columns)
        try:
            for seconds in self._rounds(sheet):
                sheet.take(await self._loop.run(self.func, sheet.calls(), seconds, self.timeout))
        except RewardStop as stop:
            return self._stop(str(stop), sheet.rows)
        return self._verdict(sheet)

    def close(self) -> None:
        """Ends the worker processes and the event loop, if there are any; the next call starts new ones."""
        self._loop.close()
        if self._pool is not None:
            self._pool.close()

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint needs: counts, the window of the limit, what was said already, and the
        function's own state where it has `state_dict` and `load_state_dict` (not with worker processes)."""
        own = self._stateful_func()
        return {
            "counts": asdict(self.counts),
            "limit": self._limit.state_dict(),
            "told": sorted(self._told),
            "metrics": sorted(self._metrics_seen),
            "func": None if own is None else own.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for kind, count in state["counts"].items():
            setattr(self.counts, kind, count)  # in place: an async function hands the object on
        self._limit.load_state_dict(state["limit"])
        self._told, self._metrics_seen = set(state["told"]), set(state["metrics"])
        own = self._stateful_func()
        if own is not None and state["func"] is not None:
            own.load_state_dict(state["func"])

    def _stateful_func(self) -> Any | None:
        return None if self._pool is not None else stateful(self.func)

    def _sheet(self, prompts: list | None, completions: Sequence, columns: dict[str, Any]) -> Sheet:
        given = {} if prompts is None else {"prompts": prompts}
        slices = self._pool.workers if self._pool is not None else 1
        return Sheet(self.__name__, {**given, "completions": list(completions), **columns}, slices)

    def _rounds(self, sheet: Sheet) -> Iterable[float | None]:
        """Seconds for one call of each round that is needed."""
        if sheet.pending:
            single = all(stop - start == 1 for start, stop in sheet.pending)
            yield _shortest(self.timeout, self.row_timeout) if single else self.timeout
        if sheet.pending:
            yield self.row_timeout

    def _run(self, func: Callable, method: str, calls: list, seconds: float | None) -> list:
        if self._pool is not None:
            return run_in_workers(self._pool, calls, seconds, self.timeout, method)
        return run_here(func, calls, seconds, self.timeout)

    def _verdict(self, sheet: Sheet) -> list[float | None]:
        scores: list[float | None] = []
        for row, value in enumerate(sheet.result):
            number, kind = checked(value)
            if kind is not None:
                sheet.failures.setdefault(row, Failure(row, kind, f"returned {value!r:.80}"))
            scores.append(None if row in sheet.failures else number)
        failed = list(sheet.failures.values())
        self.last_failed = {row: failure.kind for row, failure in sheet.failures.items()}
        self.counts.rows += sheet.rows
        self.counts.abstained += sum(score is None for score in scores) - len(failed)
        for failure in failed:
            setattr(self.counts, failure.kind, getattr(self.counts, failure.kind) + 1)
        self._tell(failed, sheet.error)
        self._log_metrics(sheet, len(failed))
        if self._limit.exceeded(sheet.rows, len(failed)):
            last = failed[-1].detail if failed else "-"
            reason = (
                f"Reward {self.__name__!r} fails too often: {self.counts} on this process, and more than "
                f"max_failed_share={self._limit.share:g} of the last {self._limit.window}. Last: {last}. Mend the "
                "function, or raise max_failed_share."
            )
            return self._stop(reason, sheet.rows)
        return scores

    def _log_metrics(self, sheet: Sheet, failed: int) -> None:
        # Always, and under the same names on every process: TRL averages over processes with one collective per name.
        # Processes have equally many rows, so the mean of the shares is the share of all rows.
        if sheet.rows and sheet.values.get("log_metric") is not None:
            sheet.metrics[f"rewards/{self.__name__}/failed"] = [failed / sheet.rows]
            for name in self._metrics_seen:
                sheet.metrics.setdefault(name, [float("nan")])
            self._metrics_seen.update(sheet.metrics)
        sheet.hand_on_logs()

    def _tell(self, failed: list[Failure], error: BaseException | None) -> None:
        for failure in failed:
            if failure.kind not in self._told:
                self._told.add(failure.kind)
                trace = ""
                if failure.kind == "exception" and error is not None:
                    trace = "\n" + "".join(traceback.format_exception(type(error), error, _own_frames(error))).rstrip()
                _log.warning(
                    "Reward %r failed on row %d (%s: %s); the row is not scored. Further failures of this kind are "
                    "counted, not shown.%s",
                    *(self.__name__, failure.row, failure.kind, failure.detail, trace),
                )

    def _stop(self, reason: str, rows: int) -> list[float | None]:
        if self.on_limit == "raise":
            raise RewardStop(reason)
        self.stop_reason = self.stop_reason or reason
        return [None] * rows

    def _spans(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list:
        """The function's `spans`; None for a row where it failed. Not counted: the rows were, when they were scored."""
        return self._companion("spans", _checked_spans, prompts, completions, columns)

    def _turn_rewards(self, prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list:
        """The function's `turn_rewards` as {turn: number}; None for a row where it failed. Not counted either."""
        return self._companion("turn_rewards", _checked_turns, prompts, completions, columns)

    def _companion(
        self, method: str, check: Callable, prompts: list | None, completions: Sequence, columns: dict[str, Any]
    ) -> list:
        sheet = self._sheet(prompts, completions, {k: v for k, v in columns.items() if not k.startswith("log_")})
        for seconds in self._rounds(sheet):
            sheet.take(self._run(getattr(self.func, method), method, sheet.calls(), seconds))
        result = [check(said) for said in sheet.result]
        bad = [row for row, said in enumerate(result) if said is None and sheet.result[row] is not None]
        for row in bad:
            detail = f"{method} returned {sheet.result[row]!r:.80}"
            sheet.failures.setdefault(row, Failure(row, "wrong_type", detail))
        self._tell(list(sheet.failures.values()), sheet.error)
        return result


def guard_of(func: Any) -> Guard | None:
    """The guard of a guarded function; None for any other."""
    guard = func if isinstance(func, Guard) else getattr(func, "guard", None)
    # A function may have a `guard` of its own, and a mock has every attribute.
    return guard if isinstance(guard, Guard) else None


def stateful(func: Any) -> Any | None:
    """What has states to keep behind a reward function: its guard, or itself if it has `state_dict` and `load_state_dict`. A
    model that gives rewards has weights, which do not change."""
    thing = guard_of(func) or func
    has_both = callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))
    return thing if has_both and not _is_model(thing) else None


def _is_model(thing: Any) -> bool:
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(thing).__mro__)


def report_failures(reward_funcs: Iterable[Any]) -> None:
    """Sets `on_limit="report"` on every guard among the functions, for a trainer that calls `check_failures`."""
    for func in reward_funcs:
        if (guard := guard_of(func)) is not None:
            guard.on_limit = "report"


def check_failures(reward_funcs: Iterable[Any], gather: Callable[[list], list] = list) -> None:
    """Stops every process together if a guard on any of them asks for it (`on_limit="report"`).

    Call it on all processes at the same point, after the rewards were gathered.

    Args:
        reward_funcs: guarded functions; others are passed over.
        gather: puts the lists of all processes together, as `accelerate.utils.gather_object` does.

    Raises:
        RewardStop: on every process, with the first reason.
    """
    reasons = [guard.stop_reason for func in reward_funcs if (guard := guard_of(func)) is not None]
    stop = [reason for reason in gather(reasons) if reason is not None]
    if stop:
        raise RewardStop(stop[0])


def callable_name(func: Any) -> str:
    """The name TRL would log: that of the function inside any partial, or of the class of a callable object."""
    while isinstance(func, functools.partial) and not hasattr(func, "__name__"):
        func = func.func
    return getattr(func, "__name__", type(func).__name__)


def is_async(func: Any) -> bool:
    """Whether calling it gives a coroutine: an async function, a partial of one, an object with an async `__call__`."""
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


def _async_function(guard: Guard) -> Callable:
    # A plain `async def`: older TRL asks `inspect.iscoroutinefunction`, which does not see an async `__call__`.
    async def reward(prompts: list | None = None, completions: Sequence = (), **columns: Any) -> list[float | None]:
        return await guard.call_async(prompts, completions, **columns)

    reward.__name__ = reward.__qualname__ = guard.__name__
    reward.guard, reward.counts = guard, guard.counts  # type: ignore[attr-defined]
    for companion in ("spans", "turn_rewards", "knows_turns"):
        if hasattr(guard, companion):
            setattr(reward, companion, getattr(guard, companion))
    return reward


def _own_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the function's own code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (clock.__file__, runners.__file__):
        trace = trace.tb_next
    return trace or error.__traceback__


def _checked_spans(spans: Any) -> list[Span] | None:
    if not isinstance(spans, (list, tuple)):
        return None
    try:
        result = [_span(*each) for each in spans]
    except (TypeError, ValueError, OverflowError):
        return None
    fine = all(0 <= span.start <= span.end and checked(span.value)[1] is None for span in result)
    return result if fine else None


def _span(start: Any, end: Any, value: Any, turn: Any = None) -> Span:
    return Span(int(start), int(end), float(value), None if turn is None else int(turn))


def _checked_turns(values: Any) -> dict[int, float] | None:
    if not isinstance(values, (list, tuple, dict)):
        return None
    result = {}
    for turn, value in values.items() if isinstance(values, dict) else enumerate(values):
        number, kind = checked(value)
        if kind is not None:
            return None
        result[turn] = number or 0.0
    return result


def _shortest(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
