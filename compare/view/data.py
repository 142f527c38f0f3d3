"""Records of a run (docs/compare/record_format.md) as the viewer shows them: display text, numbers, other strategies' credit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from compare.records import RecordRow
from credit import Credit, Rollout, Strategy
from credit.turns.index import turn_index

_OWN = ("token_ids", "span_rewards", "kl_rewards")
_LIVE = {
    "policy_logps_BT": "policy_logps",
    "sampler_logps_BT": "sampler_logps",
    "entropies_BT": "entropies",
    "values_BT": "values",
}


def rollout_of(rows: Sequence[RecordRow]) -> Rollout:
    """The recorded rows as a `Rollout`, float64. Only these rows: counts over the batch are counts over the sample."""
    length = max((len(row["tokens"]) for row in rows), default=0)
    reward_names = reward_columns(rows)
    weights = rows[0].get("reward_weights")
    learns = [row.get("learns") or [True] * len(row["tokens"]) for row in rows]
    longest = max((sum(mask) for mask in learns), default=0)
    tokens = {name: [row.get(name) for row in rows] for name in (*_OWN, "turn_rewards")}
    ids_BT, spans_BT, kl_BT, turn_rewards_BT = (
        _padded(lists, length) if None not in lists else None  # one number a token, of every row or of none
        for lists in tokens.values()
    )
    mask_BT = _padded(learns, length).bool()
    by_turn = {"turn_BT": turn_index(mask_BT), "turn_rewards_BT": turn_rewards_BT}
    return Rollout(
        rewards_B=torch.tensor([_nan(row.get("reward")) for row in rows], dtype=torch.float64),
        group_B=torch.tensor([row["group"] for row in rows]),
        mask_BT=mask_BT,
        max_length=max(rows[0].get("max_length") or 0, longest, 1),
        token_ids_BT=None if ids_BT is None else ids_BT.long(),
        span_rewards_BT=spans_BT,
        kl_rewards_BT=kl_BT,
        rewards_BK=torch.tensor([[_nan(row[f"reward/{n}"]) for n in reward_names] for row in rows], dtype=torch.float64)
        if reward_names
        else None,
        reward_weights_K=torch.tensor(weights, dtype=torch.float64) if weights else None,
        provided={name: value for name, value in by_turn.items() if value is not None},
    )


def credit_of(strategy: Strategy, rows: Sequence[RecordRow]) -> tuple[list[list[float]], list[list[float]]]:
    """(A, w) of another strategy on the same rows, one list per row.

    Raises:
        ValueError: the strategy needs something that was not recorded.
    """
    rollout = rollout_of(rows)
    credit: Credit = strategy.score(rollout)
    advantages_BT = credit.advantages_BT
    if advantages_BT is None:
        length = rollout.mask_BT.shape[1]
        signals: dict[str, Any] = rollout.signals() | {"advantages_B": credit.advantages_B}
        for signal, column in _LIVE.items():
            lists = [_filled(row, column) for row in rows]
            if None not in lists:
                signals[signal] = _padded(lists, length)
        advantages_BT = strategy.live_advantages(signals)
    sizes = [len(row["tokens"]) for row in rows]
    return _rows(advantages_BT, sizes), _rows(credit.weights_BT, sizes)


def reward_columns(rows: Sequence[RecordRow]) -> list[str]:
    return [name.removeprefix("reward/") for name in rows[0] if name.startswith("reward/")]


def _padded(rows: Iterable[Sequence[float]], length: int) -> torch.Tensor:
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], dtype=torch.float64)


def _rows(values_BT: torch.Tensor, sizes: Sequence[int]) -> list[list[float]]:
    return [row[:size] for row, size in zip(values_BT.tolist(), sizes, strict=True)]


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _filled(row: RecordRow, column: str) -> Sequence[float] | None:
    """A row that does not learn has nothing to say of its forward pass, and nothing reads it: 0 there."""
    hidden = row.get(column) is None and column in row and not any(row.get("learns") or [True])
    return [0.0] * len(row["tokens"]) if hidden else row.get(column)
