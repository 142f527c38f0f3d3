"""One recorded step as JSON-ready data: display text, numbers, other strategies' credit, and what they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.records import RecordRow
from compare.view.chat import shown_columns, shown_messages
from compare.view.data import credit_of, reward_columns
from compare.view.digits import short_number, short_numbers
from compare.view.totals import limits_of, summary_of
from credit import Strategy
from userio.visible import visible

RECORDED = "recorded"
# key of the view -> columns of the record; two are subtracted. What is of the completion itself, whatever the strategy.
_OF_ROW = {
    "entropy": ("entropies",),
    "logp": ("policy_logps",),
    "gap": ("policy_logps", "sampler_logps"),
    "ref": ("policy_logps", "ref_logps"),
    "value": ("values",),
    "span": ("span_rewards",),
    "kl": ("kl_rewards",),
    "turn": ("turn_rewards",),
}


def view_of_step(
    step: int, rows: Sequence[RecordRow], strategies: Mapping[str, Callable[[], Strategy]]
) -> dict[str, Any]:
    """One recorded step as JSON-ready data, all text made visible by `visible`. Groups in which no strategy gives credit
    (all completions equally good) come last.

    A strategy that cannot be computed on these rows is left out, with the reason under "failed".
    """
    credits: dict[str, tuple[list, list]] = {
        f"{RECORDED}: {rows[0].get('strategy') or 'this run'}": (
            [r["credit"] for r in rows],
            [r["weight"] for r in rows],
        )
    }
    failed = {}
    for name, make in strategies.items():
        try:
            credits[name] = credit_of(make(), rows)
        except ValueError as error:
            failed[name] = visible(str(error))
    groups: dict[int, dict[str, Any]] = {}
    seen = {token: visible(token) for token in {token for row in rows for token in row["tokens"]}}
    for i, row in enumerate(rows):
        group = groups.get(row["group"]) or groups.setdefault(row["group"], _group(row))
        group["rows"].append(_row(row, reward_columns(rows), seen))
        for key, place in (("A", 0), ("w", 1)):
            group["rows"][-1][key] = [short_numbers(lists[place][i]) for lists in credits.values()]
    ordered = sorted(groups.values(), key=lambda group: not _has_credit(group))
    return {
        "step": step,
        "strategies": [visible(name) for name in credits],
        "failed": failed,
        "rewards": [visible(name) for name in reward_columns(rows)],
        "batch": {"rows": rows[0].get("batch_rows"), "shown": len(rows)},
        "prompts": [hashlib.sha256(group["prompt"].encode()).hexdigest()[:12] for group in ordered],
        "summary": summary_of(ordered),
        "limits": limits_of(ordered, len(credits), _OF_ROW),
        "groups": ordered,
    }


def _group(row: RecordRow) -> dict[str, Any]:
    """What its rows have in common: all come from one row of the data set."""
    return {
        "group": row["group"],
        "prompt": visible(row.get("prompt") or ""),
        "messages": shown_messages(row.get("messages")),
        "columns": shown_columns(row.get("columns")),
        "rows": [],
    }


def _row(row: RecordRow, rewards: Sequence[str], seen: Mapping[str, str]) -> dict[str, Any]:
    shown = {
        "tokens": [seen[token] for token in row["tokens"]],
        "learns": [int(bool(x)) for x in row.get("learns") or [True] * len(row["tokens"])],
        "reward": short_number(row.get("reward")),
        "advantage": short_number(row.get("advantage")),
        "rewards": [short_number(row[f"reward/{name}"]) for name in rewards],
        "truncated": row.get("truncated"),
        "fault": None if row.get("fault") is None else visible(row["fault"]),
    }
    for key, names in _OF_ROW.items():
        if all(row.get(name) is not None for name in names):
            first, *others = (np.asarray(row[name], dtype=float) for name in names)
            shown[key] = short_numbers(first - others[0] if others else first)
    return shown


def _has_credit(group: Mapping[str, Any]) -> bool:
    columns = ((a, w) for row in group["rows"] for a, w in zip(row["A"], row["w"], strict=True))
    return any(x and y for a, w in columns for x, y in zip(a, w, strict=True))
