"""Per-token records of a run: which token got which credit. Columns are explained in docs/compare/record_format.md.

    records/step00000010.parquet    one file per recorded step, one row per completion
    records/index.json              {"format": 3, "every": N}; `every` doubles whenever the folder grows too large

`Recorder` writes and bounds the files and knows nothing of trainers; trainers/run/recording.py feeds it from a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainers.run.files import whole, write_rows

FORMAT = 3
# Format 2 has no faults of environments; 1 no messages, columns and truncated either, and fewer token columns.
READABLE = (1, 2, 3)
TOKEN_COLUMNS: dict[str, pa.DataType] = {
    "token_ids": pa.list_(pa.int32()),
    "tokens": pa.list_(pa.string()),
    "learns": pa.list_(pa.bool_()),
    "credit": pa.list_(pa.float32()),
    "weight": pa.list_(pa.float32()),
    "policy_logps": pa.list_(pa.float32()),
    "sampler_logps": pa.list_(pa.float32()),
    "entropies": pa.list_(pa.float32()),
    "values": pa.list_(pa.float32()),
    "ref_logps": pa.list_(pa.float32()),
    "span_rewards": pa.list_(pa.float32()),
    "kl_rewards": pa.list_(pa.float32()),
    "turn_rewards": pa.list_(pa.float32()),
}
ROW_COLUMNS: dict[str, pa.DataType] = {
    "group": pa.int32(),
    "prompt": pa.string(),
    "messages": pa.string(),
    "columns": pa.string(),
    "truncated": pa.bool_(),
    "fault": pa.string(),
    "reward": pa.float64(),
    "advantage": pa.float64(),
    "max_length": pa.int32(),
    "batch_rows": pa.int32(),
    "batch_tokens": pa.int64(),
    "strategy": pa.string(),
    "reward_weights": pa.list_(pa.float64()),
}
REQUIRED = ("group", "tokens", "credit", "weight")


class Recorder:
    """Writes records below `folder`, bounded in rows per step and in bytes.

    Args:
        folder: made when the first record is written.
        every: record steps 1, 1 + every, 1 + 2 every, ...; 0 never.
        max_rows_per_step: completions kept of one step, in whole groups (at least one group).
        max_bytes: when the folder grows past it, every second step's file goes (the first and the newest stay) and
            `every` doubles, so that the records keep spanning the whole run. One file alone may exceed it.
        seed: decides which groups are kept.

    Raises:
        ValueError: a negative `every`, or limits below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        every: int = 10,
        max_rows_per_step: int = 32,
        max_bytes: int = 64 * 2**20,
        seed: int = 0,
    ):
        if every < 0 or max_rows_per_step < 1 or max_bytes < 1:
            raise ValueError(
                f"every={every} must be >= 0 (0: never record), max_rows_per_step={max_rows_per_step} and "
                f"max_bytes={max_bytes} at least 1."
            )
        self.folder, self.every, self.max_rows_per_step, self.max_bytes = (
            Path(folder),
            every,
            max_rows_per_step,
            max_bytes,
        )
        self._seed = seed
        self._first_every = every
        self._sizes: dict[int, int] = {}  # bytes of each step's file that is kept
        if every and (self.folder / "index.json").is_file():
            index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            while self.every < index["every"]:
                self.every *= 2  # an earlier part of this run grew too large; keep its pace
            self._sizes = {_step_of(file): file.stat().st_size for file in record_files(self.folder)}

    def state_dict(self) -> dict[str, Any]:
        """Pace and sizes, so that a run that goes on from here thins its records when an undisturbed one does."""
        return {"every": self.every, "sizes": dict(self._sizes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.every, self._sizes = state["every"], dict(state["sizes"])

    def start(self) -> None:
        """Forgets an earlier life of a run that starts at step 0 again."""
        self.every, self._sizes = self._first_every, {}

    def due(self, first: int, last: int | None = None, final: int | None = None) -> bool:
        """Whether any optimiser step from `first` to `last` (default: first; counted from 1) is to be recorded.
        `final`, the last step of the run, always is."""
        steps = range(first, (first if last is None else last) + 1)
        return self.every > 0 and any((step - 1) % self.every == 0 or step == final for step in steps)

    def choose_groups(self, step: int, groups: int, rows_per_group: int) -> list[int]:
        """Which of the groups 0..groups-1 to keep: the same on every rank, another draw at every step."""
        kept = min(groups, max(1, self.max_rows_per_step // max(1, rows_per_group)))
        drawn = np.random.default_rng([self._seed, step]).choice(groups, size=kept, replace=False)
        return sorted(int(group) for group in drawn)

    def record(self, step: int, rows: Mapping[str, Sequence[Any]]) -> Path:
        """Writes one step: columns of equal length, one entry per completion; a step written again is replaced.

        `TOKEN_COLUMNS` hold one list per completion, all as long as its "tokens"; "reward/<function>" columns hold
        numbers, None or NaN where the function abstained. Rows beyond the limit are cut, whole groups at a time, in
        the order given.

        Raises:
            ValueError: unknown or missing columns, or lengths that disagree.
        """
        table = _table(step, _first_groups(rows, self.max_rows_per_step))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step{step:08d}.parquet"
        with whole(path) as half:
            pq.write_table(table, half, compression="zstd")
        self._sizes[step] = path.stat().st_size
        self._bound()
        self._write_index()
        return path

    def _bound(self) -> None:
        while len(self._sizes) > 2 and sum(self._sizes.values()) > self.max_bytes:
            for step in sorted(self._sizes)[1:-1:2]:
                del self._sizes[step]
                # A life that was killed later may have deleted it before.
                (self.folder / f"step{step:08d}.parquet").unlink(missing_ok=True)
            self.every *= 2

    def _write_index(self) -> None:
        write_rows(self.folder / "index.json", [{"format": FORMAT, "every": self.every}])


def record_files(folder: str | Path) -> list[Path]:
    """The files of a records folder, in order of steps."""
    return sorted(Path(folder).glob("step*.parquet"))


def drop_after(folder: str | Path, step: int) -> None:
    """Removes records of steps after `step`: a run that resumes there will write them again."""
    for file in record_files(folder):
        if _step_of(file) > step:
            file.unlink()


def _step_of(file: Path) -> int:
    return int(file.stem.removeprefix("step"))


def _first_groups(rows: Mapping[str, Sequence[Any]], limit: int) -> dict[str, list[Any]]:
    kept: list[int] = []
    by_group: dict[int, list[int]] = {}
    for i, group in enumerate(rows.get("group", ())):
        by_group.setdefault(int(group), []).append(i)
    for members in by_group.values():
        if kept and len(kept) + len(members) > limit:
            break
        kept += members[:limit]
    return {
        name: [column[i] for i in kept] if len(column) == len(rows["group"]) else list(column)
        for name, column in rows.items()
    }


def _table(step: int, rows: dict[str, list[Any]]) -> pa.Table:
    types = {**ROW_COLUMNS, **TOKEN_COLUMNS}
    unknown = [name for name in rows if name not in types and not name.startswith("reward/")]
    missing = [name for name in REQUIRED if name not in rows]
    if unknown or missing:
        raise ValueError(
            f"A record needs the columns {', '.join(REQUIRED)} and may have {', '.join(types)} and reward/<function>; "
            f"unknown: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}."
        )
    lengths = {name: len(column) for name, column in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns of a record must be equally long, got {lengths}.")
    for name in TOKEN_COLUMNS.keys() & rows.keys():
        for i, (values, tokens) in enumerate(zip(rows[name], rows["tokens"], strict=True)):
            if values is not None and len(values) != len(tokens):
                raise ValueError(f"{name} of row {i} has {len(values)} entries for {len(tokens)} tokens.")
    columns: dict[str, pa.Array] = {"step": pa.array([step] * lengths["group"], pa.int64())}
    for name, kind in types.items():
        if name in rows:
            columns[name] = pa.array(rows[name], kind)
    for name in sorted(name for name in rows if name.startswith("reward/")):
        columns[name] = pa.array(
            [None if value is None or value != value else value for value in rows[name]], pa.float64()
        )
    return pa.table(columns).replace_schema_metadata({"apportion_record_format": str(FORMAT)})
