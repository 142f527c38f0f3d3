"""Records of a run (docs/compare/record_format.md) as the viewer shows them: display text, numbers, other strategies' credit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from compare.untrusted import check_folder
from credit import Credit, Rollout, Strategy
from trainers.run.records import READABLE, REQUIRED, ROW_COLUMNS, TOKEN_COLUMNS

RecordRow = dict[str, Any]
RECORDED = "recorded"
MOST_ROWS = 100_000  # of one file; a few bytes of Parquet can claim a billion
_LIVE = {
    "policy_logps_BT": "policy_logps",
    "sampler_logps_BT": "sampler_logps",
    "entropies_BT": "entropies",
    "values_BT": "values",
}


def find_records(run: str | Path) -> dict[int, Path]:
    """step -> file, in order. `run` is a run folder or its records folder.

    Raises:
        ValueError: no such folder, or nothing recorded there.
    """
    run = Path(run)
    check_folder(run, "a run folder, such as runs/chain/uniform/seed0")
    folder = run / "records" if (run / "records").is_dir() else run
    named = {path: path.stem.removeprefix("step") for path in sorted(folder.glob("step*.parquet"))}
    files = {int(step): path for path, step in named.items() if step.isascii() and step.isdigit() and path.is_file()}
    if not files:
        raise ValueError(f"{run} holds no records. Train with record.every=10 (0 switches them off).")
    return dict(sorted(files.items()))


def read_record(path: Path) -> list[RecordRow]:
    """The rows of one record file, rows of a group together. Only the columns of docs/compare/record_format.md are read, each as
    the type that stands there.

    Raises:
        ValueError: the file is broken, or no record of this format.
    """
    try:
        file = pq.ParquetFile(path)
        version = (file.schema_arrow.metadata or {}).get(b"apportion_record_format")
        if version not in [str(number).encode() for number in READABLE]:
            raise ValueError(f"no record of format {' or '.join(map(str, READABLE))} (found {version!r})")
        if not 0 < file.metadata.num_rows <= MOST_ROWS:
            raise ValueError(f"{file.metadata.num_rows} rows")
        names = file.schema_arrow.names
        types = {**ROW_COLUMNS, **TOKEN_COLUMNS} | {n: pa.float64() for n in names if n.startswith("reward/")}
        if missing := [name for name in REQUIRED if name not in names]:
            raise ValueError(f"no column {missing[0]}")
        table = file.read(columns=[name for name in dict.fromkeys(names) if name in types])
        rows = pa.table({name: table.column(name).cast(types[name]) for name in table.column_names}).to_pylist()
        for row in rows:
            _check_row(row)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be shown: {str(error).splitlines()[0]}") from None
    return sorted(rows, key=lambda row: row["group"])


def _check_row(row: RecordRow) -> None:
    for name in REQUIRED:
        if row[name] is None:
            raise ValueError(f"{name} is null in a row")
    for name in TOKEN_COLUMNS:
        values = row.get(name)
        if values is not None and len(values) != len(row["tokens"]):
            raise ValueError(f"{name} has {len(values)} entries for {len(row['tokens'])} tokens")
        if values is not None and None in values:
            raise ValueError(f"{name} holds a null")


def rollout_of(rows: Sequence[RecordRow]) -> Rollout:
    """The recorded rows as a `Rollout`, float64. Only these rows: counts over the batch are counts over the sample."""
    length = max((len(row["tokens"]) for row in rows), default=0)
    reward_names = reward_columns(rows)
    weights = rows[0].get("reward_weights")
    learns = [row.get("learns") or [True] * len(row["tokens"]) for row in rows]
    longest = max((sum(mask) for mask in learns), default=0)
    tokens = {name: [row.get(name) for row in rows] for name in ("token_ids", "span_rewards", "kl_rewards")}
    ids_BT, spans_BT, kl_BT = (
        _padded(lists, length) if None not in lists else None  # one number a token, of every row or of none
        for lists in tokens.values()
    )
    return Rollout(
        rewards_B=torch.tensor([_nan(row.get("reward")) for row in rows], dtype=torch.float64),
        group_B=torch.tensor([row["group"] for row in rows]),
        mask_BT=_padded(learns, length).bool(),
        max_length=max(rows[0].get("max_length") or 0, longest, 1),
        token_ids_BT=None if ids_BT is None else ids_BT.long(),
        span_rewards_BT=spans_BT,
        kl_rewards_BT=kl_BT,
        rewards_BK=torch.tensor([[_nan(row[f"reward/{n}"]) for n in reward_names] for row in rows], dtype=torch.float64)
        if reward_names
        else None,
        reward_weights_K=torch.tensor(weights, dtype=torch.float64) if weights else None,
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
