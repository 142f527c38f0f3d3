"""What a recorded step comes to: its means, and how large its numbers get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.view.digits import short_number, short_numbers
from credit.turns.index import runs_of
from credit.turns.measures import ROUNDING

FAR = 4  # an end of a scale lies at the 99th percentile where the largest is more than so many times beyond it


def summary_of(groups: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the recorded completions; None where nothing was recorded.

    same: share of groups whose scored completions all have one reward: nothing to learn from.
    gap: mean |log-prob now - log-prob when sampled| of learning tokens.
    masked: share of tokens that nothing is learned from.
    turns, idle, failed: turns a completion, share of sum |A w|, as recorded, on turns that earned nothing, share of completions
    whose environment went wrong; only where there are several turns, where it is known, where one did.
    """
    rows = [row for group in groups for row in group["rows"]]
    rewards = _known(row["reward"] for row in rows)
    spreads = [_known(row["reward"] for row in group["rows"]) for group in groups]
    totals = {
        "reward": _mean(rewards),
        "reward_sd": float(np.std(rewards)) if len(rewards) else None,
        "same": _mean([float(not len(each) or np.ptp(each) == 0) for each in spreads]),
        "length": _mean([sum(row["learns"]) for row in rows]),
        "masked": _mean([1.0 - learns for row in rows for learns in row["learns"]]),
        "truncated": _mean(_known(row["truncated"] for row in rows)),
        "entropy": _mean(_learning(rows, "entropy")),
        "gap": _mean(np.abs(_learning(rows, "gap"))),
    }
    totals |= {name: value for name, value in _of_turns(rows).items() if value is not None}
    return {"rows": len(rows), "groups": len(groups)} | {name: short_number(value) for name, value in totals.items()}


def _of_turns(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    turns = [runs_of(row["learns"]) for row in rows]
    several, faults = any(len(each) > 1 for each in turns), [row["fault"] is not None for row in rows]
    return {
        "turns": _mean([len(each) for each in turns]) if several else None,
        "idle": _idle(rows, turns) if several and all("turn" in row for row in rows) else None,
        "failed": _mean(faults) if any(faults) else None,
    }


def _idle(rows: Sequence[Mapping[str, Any]], turns: Sequence[Sequence[Sequence[int]]]) -> float | None:
    """Of the first strategy, the recorded one."""
    whole = idle = 0.0
    for row, runs in zip(rows, turns, strict=True):
        earned = [sum(row["turn"][t] or 0.0 for t in run) for run in runs]
        pushed = [sum(abs((row["A"][0][t] or 0.0) * (row["w"][0][t] or 0.0)) for t in run) for run in runs]
        least = ROUNDING * sum(map(abs, earned))
        whole += sum(pushed)
        idle += sum(push for push, got in zip(pushed, earned, strict=True) if abs(got) <= least)
    return idle / whole if whole else None


def limits_of(groups: Sequence[Mapping[str, Any]], strategies: int, of_row: Iterable[str]) -> dict[str, list[Any]]:
    """Scale of each quantity, {low, high, least, most} for each strategy's column, or one for what is the completion's own;
    learning tokens only. Where few tokens lie far out, `low` and `high` leave them out; `least` and `most` never."""
    rows = [row for group in groups for row in group["rows"]]
    limits: dict[str, list[Any]] = {"Aw": [], "A": [], "w": []}
    for column in range(strategies):
        a, w = (
            np.concatenate(
                [np.array(row[key][column], dtype=float)[np.array(row["learns"], bool)] for row in rows] or [[]]
            )
            for key in ("A", "w")
        )
        for name, values in (("Aw", a * w), ("A", a), ("w", w)):
            limits[name].append(_limit(values))
    for name in of_row:
        if len(values := _learning(rows, name)):
            limits[name] = [_limit(values)]
    return limits


def _limit(values: Any) -> dict[str, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return {"low": 0.0, "high": 0.0, "least": 0.0, "most": 0.0}
    least, most = float(values.min()), float(values.max())
    size = np.abs(values[values != 0])
    usual = float(np.quantile(size, 0.99)) if len(size) else 0.0
    far = max(abs(least), abs(most)) > FAR * usual > 0
    low, high = (max(least, -usual), min(most, usual)) if far else (least, most)
    ends = zip(("low", "high", "least", "most"), short_numbers((low, high, least, most)), strict=True)
    return {name: end or 0.0 for name, end in ends}


def _learning(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    parts = [np.array(row[name], dtype=float)[np.array(row["learns"], dtype=bool)] for row in rows if name in row]
    values = np.concatenate(parts) if parts else np.array([])
    return values[np.isfinite(values)]


def _known(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
