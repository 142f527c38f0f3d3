"""What a recorded step comes to: its means, and how large its numbers get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.view.digits import short_number, short_numbers

FAR = 4  # an end of a scale lies at the 99th percentile where the largest is more than so many times beyond it


def summary_of(groups: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the recorded completions; None where nothing was recorded.

    same: share of groups whose scored completions all have one reward: nothing to learn from.
    gap: mean |log-prob now - log-prob when sampled| of learning tokens.
    masked: share of tokens that nothing is learned from.
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
    return {"rows": len(rows), "groups": len(groups)} | {name: short_number(value) for name, value in totals.items()}


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
