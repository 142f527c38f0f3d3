"""What a guard keeps of a reward function's results: checked values, counts, and the reason to stop."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

FAILURE_KINDS = ("exception", "timeout", "not_finite", "wrong_type")
_FLOAT32_MAX = 3.4028234663852886e38  # TRL stores rewards as float32; anything larger would turn into inf there


class RewardStop(ValueError):
    """The run must stop: a reward function returned the wrong number of results, or failed on too many rows."""


@dataclass
class Counts:
    """Rows seen so far by one guard, on this process.

    `abstained` rows returned None by themselves; they are no failures. The four kinds of failure add up to `failed`.
    """

    rows: int = 0
    abstained: int = 0
    exception: int = 0
    timeout: int = 0
    not_finite: int = 0
    wrong_type: int = 0

    @property
    def failed(self) -> int:
        return sum(getattr(self, kind) for kind in FAILURE_KINDS)

    def __str__(self) -> str:
        kinds = ", ".join(f"{getattr(self, kind)} {kind}" for kind in FAILURE_KINDS if getattr(self, kind))
        return f"{self.failed} of {self.rows} rows failed" + (f" ({kinds})" if kinds else "")


@dataclass
class FailureLimit:
    """Says when a function fails too often: more than `share` of the last `window` rows.

    Until `window` rows were seen, the share is taken of `window` rows all the same, so that one bad row in a small
    first batch stops nothing. A call larger than the window is judged whole.
    """

    share: float
    window: int
    _calls: deque[tuple[int, int]] = field(default_factory=deque)

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"max_failed_share={self.share} must lie between 0 and 1; 1 never stops the run.")
        if self.window < 1:
            raise ValueError(f"window={self.window} must be at least one row.")

    def state_dict(self) -> dict[str, Any]:
        return {"calls": [list(call) for call in self._calls]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._calls = deque((rows, failed) for rows, failed in state["calls"])

    def exceeded(self, rows: int, failed: int) -> bool:
        """Takes in one more call and says whether the limit is passed now."""
        self._calls.append((rows, failed))
        seen = sum(rows for rows, _ in self._calls)
        while len(self._calls) > 1 and seen - self._calls[0][0] >= self.window:
            seen -= self._calls.popleft()[0]
        return sum(failed for _, failed in self._calls) > self.share * max(seen, self.window)


def listed(result: Any, rows: int, name: str) -> list:
    """The result of a reward function as a list of `rows` entries.

    Raises:
        RewardStop: it is no sequence, or has the wrong length, so no row can be told from another.
    """
    if hasattr(result, "tolist") and not isinstance(result, (str, bytes)):
        result = result.tolist()
    if not isinstance(result, (list, tuple)):
        raise RewardStop(
            f"Reward {name!r} returned {type(result).__name__}; it must return a list with one number or None per "
            f"completion ({rows} here)."
        )
    if len(result) != rows:
        raise RewardStop(
            f"Reward {name!r} returned {len(result)} results for {rows} completions; it must return exactly one number "
            "or None per completion, in the same order."
        )
    return list(result)


def checked(value: Any) -> tuple[float | None, str | None]:
    """One entry -> (value to keep, kind of failure or None)."""
    if type(value) is float:
        number = value
    elif value is None:
        return None, None
    elif isinstance(value, (str, bytes)) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        return None, "wrong_type"
    else:
        try:
            number = float(value)
        except OverflowError:
            return None, "not_finite"
        except Exception:
            return None, "wrong_type"
    if not math.isfinite(number) or abs(number) > _FLOAT32_MAX:
        return None, "not_finite"
    return number, None
