"""One call of a reward function as TRL makes it: cut into rows where that is needed, and put together again."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, NamedTuple

from rewards.guard.failures import Failure
from rewards.guard.verdict import listed

_WHOLE = ("trainer_state", "log_extra", "log_metric")
Values = dict[str, Any]  # the keyword arguments of one call


class Logs:
    """Stands in for TRL's `log_extra` and `log_metric` while a function runs, so that a call which is given up leaves
    no half-written logs behind."""

    def __init__(self):
        self.columns: dict[str, list] = defaultdict(list)
        self.metrics: dict[str, list[float]] = defaultdict(list)

    def log_extra(self, column: str, values: list) -> None:
        self.columns[column].extend(values)

    def log_metric(self, name: str, value: float) -> None:
        self.metrics[name].append(value)

    def stand_in(self, values: Values) -> Values:
        """The same call, with these logs in the place of TRL's callbacks (where it has any)."""
        mine = {name: getattr(self, name) for name in ("log_extra", "log_metric") if values.get(name) is not None}
        return {**values, **mine}


class Outcome(NamedTuple):
    """What a call gave: the function's result, the failures it reported itself, and what it logged."""

    result: Any
    failures: list[Failure]
    logs: Logs


class Sheet:
    """The rows of one call and what is known about them. Rounds: the whole batch first (in `slices` equal parts), then
    single rows, only for the parts that failed.

        sheet = Sheet("polite", values)
        while sheet.pending:
            sheet.take([run(call) for call in sheet.calls()])
    """

    def __init__(self, name: str, values: Values, slices: int = 1):
        self.name, self.values = name, values
        self.rows = len(values["completions"])
        self.result: list = [None] * self.rows
        self.failures: dict[int, Failure] = {}
        self.error: BaseException | None = None  # the first one, for its traceback
        self.columns: dict[str, list] = {}
        self.metrics: dict[str, list[float]] = defaultdict(list)
        size = max(-(-self.rows // max(slices, 1)), 1)
        self.pending = [(start, min(start + size, self.rows)) for start in range(0, self.rows, size)]

    def calls(self) -> list[Values]:
        """The keyword arguments of every call of this round."""
        return [rows_of(self.values, start, stop) for start, stop in self.pending]

    def take(self, outcomes: list[Outcome | BaseException]) -> None:
        """Takes in the outcomes of this round, in order, and sets up the next one.

        Raises:
            RewardStop: a call returned the wrong number of results.
        """
        pending, self.pending = self.pending, []
        for (start, stop), outcome in zip(pending, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                self._keep(start, stop, outcome)
            elif stop - start > 1:
                self.pending += [(row, row + 1) for row in range(start, stop)]
            else:
                timed_out = isinstance(outcome, TimeoutError)
                self.error = self.error or (None if timed_out else outcome)
                text = str(outcome) if timed_out else f"{type(outcome).__name__}: {outcome}"
                self.failures[start] = Failure(start, "timeout" if timed_out else "exception", text)

    def _keep(self, start: int, stop: int, outcome: Outcome) -> None:
        self.result[start:stop] = listed(outcome.result, stop - start, self.name)
        for failure in outcome.failures:
            self.failures.setdefault(start + failure.row, failure._replace(row=start + failure.row))
        for column, values in outcome.logs.columns.items():
            mine = self.columns.setdefault(column, [None] * self.rows)
            mine[start : start + len(values)] = values
        for name, values in outcome.logs.metrics.items():
            self.metrics[name] += values

    def hand_on_logs(self) -> None:
        """Passes the logs to TRL's callbacks, where the call had them. A metric logged several times (once per row) is
        averaged first."""
        if (log_extra := self.values.get("log_extra")) is not None:
            for column, values in self.columns.items():
                log_extra(column, values)
        if (log_metric := self.values.get("log_metric")) is not None:
            for name, values in self.metrics.items():
                log_metric(name, sum(values) / len(values))


def rows_of(values: Values, start: int, stop: int) -> Values:
    """The same call on rows `start` to `stop`: per-row lists are sliced, everything else is passed on."""
    rows = len(values["completions"])
    if (start, stop) == (0, rows):
        return values

    def cut(name: str, value: Any) -> Any:
        per_row = name not in _WHOLE and isinstance(value, (list, tuple)) and len(value) == rows
        return value[start:stop] if per_row else value

    return {name: cut(name, value) for name, value in values.items()}


def portable(values: Values) -> Values:
    """The same call as it can leave the process: log callbacks become plain marks, and of TRL's trainer state only the
    plain numbers and texts (`global_step`, `max_steps`, `epoch`, ...) go along."""
    values = {name: True if name in _WHOLE[1:] and value is not None else value for name, value in values.items()}
    if (state := values.get("trainer_state")) is not None:
        plain = {k: v for k, v in vars(state).items() if v is None or isinstance(v, (bool, int, float, str))}
        values["trainer_state"] = SimpleNamespace(**plain)
    return values
