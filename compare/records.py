"""Records of a run (docs/compare/record_format.md), read as data: the columns that stand there, each as its type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compare.untrusted import check_folder
from trainers.run.records import READABLE, REQUIRED, ROW_COLUMNS, TOKEN_COLUMNS

RecordRow = dict[str, Any]
# Of one file, and of one of its columns; a few bytes of Parquet can claim a billion.
MOST_ROWS, MOST_VALUES = 100_000, 2**26


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
        rows = read_columns(path).to_pylist()
        for row in rows:
            _check_row(row)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be shown: {str(error).splitlines()[0]}") from None
    return sorted(rows, key=lambda row: row["group"])


def read_columns(path: Path, only: Sequence[str] | None = None) -> pa.Table:
    """Columns of one record file, in the order of the file; None: all that the format has. Their lengths are not compared.

    Raises:
        ValueError, OSError, pa.ArrowException: the file is broken, or no record of this format.
    """
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
    if (largest := _most_values(file.metadata)) > MOST_VALUES:
        raise ValueError(f"{largest} values in a column")
    wanted = [name for name in dict.fromkeys(names) if name in types and (only is None or name in only)]
    table = file.read(columns=wanted)
    return pa.table({name: table.column(name).cast(types[name]) for name in table.column_names})


def _most_values(facts: pq.FileMetaData) -> int:
    return max(
        (
            sum(facts.row_group(group).column(place).num_values for group in range(facts.num_row_groups))
            for place in range(facts.num_columns)
        ),
        default=0,
    )


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
