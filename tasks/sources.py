"""Where a table comes from: a file, a folder, several of these, or a data set of the Hugging Face hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from userio.read import SUFFIXES, TEXT, Raw, existing, kind_of, nearest, read_rows

logger = logging.getLogger(__name__)

# `datasets` gives files to splits by these words of their names; the first is what it calls the split.
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "dev", "val"),
}
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a folder
_GLOB = re.compile(r"[*?\[]")
_HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Part:
    """Which rows of a source are wanted.

    Args:
        split: of a folder or a data set; None: the only one, or the one that evaluation usually has.
        config, revision: of a data set on the hub.
        limit: at most so many rows of each source.
        others_used: nobody needs to be told of splits beside this one.
    """

    split: str | None = "train"
    config: str | None = None
    revision: str | None = None
    limit: int | None = None
    others_used: bool = True


def rows_at(path: str | Sequence[str], setting: str, part: Part) -> Raw:
    """(place, row) pairs of one table, or of several put together.

    Args:
        path: a file (userio/read.py), a folder of such files or one that `datasets` has saved, a pattern with `*`, the id
            of a data set on the hub; or a list of these.
        setting: what the path was given as, for messages.

    Raises:
        ValueError: there is no such thing, with the nearest name; a file that cannot be read, with its line; no such split.
    """
    if isinstance(path, str):
        return _rows(path, setting, part)
    if not path:
        raise ValueError(f"{setting}=[] names no file.")
    rows: Raw = []
    for number, one in enumerate(path):
        if not isinstance(one, str):
            raise ValueError(f"{setting}[{number}]={one!r}: give the path of a file, or of a folder.")
        rows += _rows(one, f"{setting}[{number}]", part)
    return rows


def name_of(path: str | Sequence[str]) -> str:
    """What a task is called by its path: the file's name without its kind, or the last part of the folder or of the id."""
    first = path if isinstance(path, str) else path[0]
    last = re.sub(r"[*?\[\]]", "", Path(first).name)
    kind = kind_of(f"x{last}")
    return (last.split(kind)[0] if kind in SUFFIXES else last).strip("-_.") or "data"


def hub_rows(dataset: str, setting: str, part: Part) -> Raw:
    """Rows of a split of a data set on the hub, or in a folder that `datasets` can load.

    Raises:
        ValueError: the data set, configuration or split cannot be had, or it has no rows.
    """
    from datasets import DatasetDict, load_dataset  # slow to import, so only where it is needed
    from datasets.exceptions import DatasetsError

    try:
        loaded = load_dataset(dataset, part.config, revision=part.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        told = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        raise ValueError(
            f"{setting}={dataset} cannot be loaded ({_first_line(told)}). Check the name and task.config; for private "
            "data, `hf auth login`; without a network, download it first or use task=jsonl with a file or folder."
        ) from error
    assert isinstance(loaded, DatasetDict)
    return _of_splits(loaded, dataset, part)


def _rows(path: str, setting: str, part: Part) -> Raw:
    place = Path(path).expanduser()
    if place.is_dir():
        return _folder(place, setting, part)
    if _GLOB.search(path) and not place.exists():
        return _several(_matching(place), f"{setting}={path}", setting, part.limit)
    is_name = kind_of(path) == "" or (path.count("/") == 1 and kind_of(path) not in (*SUFFIXES, TEXT))
    if not place.exists() and is_name and _HUB_ID.fullmatch(path):
        try:
            return hub_rows(path, setting, part)
        except ValueError as error:
            there = [str(child) for child in place.parent.iterdir()] if place.parent.is_dir() else []
            raise ValueError(
                f"{error} And there is no file or folder {path} (looked in {Path.cwd()}).{nearest(path, there)}"
            ) from error
    return read_rows(existing(path, setting), setting, part.limit)


def _folder(folder: Path, setting: str, part: Part) -> Raw:
    if any((folder / name).is_file() for name in _SAVED):
        return _saved(folder, setting, part)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and _is_data(file.relative_to(folder))]
    if not files:
        inner = sorted({str(file.parent) for name in _SAVED for file in folder.glob(f"*/{name}")})
        hint = f" Did you mean {inner[0]}?" if inner else ""
        raise ValueError(
            f"{setting}={folder} is a folder without a file of the kinds {', '.join(SUFFIXES)}, and no saved data set.{hint}"
        )
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_named(file.relative_to(folder)) or "train", []).append(file)
    return _several(splits[_chosen(splits, str(folder), part)], f"{setting}={folder}", setting, part.limit)


def _several(files: list[Path], named: str, setting: str, limit: int | None) -> Raw:
    if not files:
        raise ValueError(f"{named}: no file of the kinds {', '.join(SUFFIXES)} (looked in {Path.cwd()}).")
    return [row for file in files for row in read_rows(file, setting, limit)][:limit]


def _matching(pattern: Path) -> list[Path]:
    start = Path(pattern.anchor) if pattern.is_absolute() else Path()
    found = start.glob(str(pattern.relative_to(start)))
    return sorted(file for file in found if file.is_file() and kind_of(file) in SUFFIXES)


def _is_data(file: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.parts)
    return kind_of(file) in SUFFIXES and not hidden and file.name not in ("dataset_info.json", "dataset_infos.json")


def _split_named(file: Path) -> str | None:
    """The split whose name is a word of the file's name, or of a folder's that it stands in."""
    for part in reversed(file.parts):
        words = re.split(r"[^a-z0-9]+", part.lower())
        for split, names in _SPLITS.items():
            if set(names) & set(words):
                return split
    return None


def _saved(folder: Path, setting: str, part: Part) -> Raw:
    from datasets import Dataset, DatasetDict, load_from_disk  # slow to import, so only where it is needed

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # whatever a damaged folder makes of it
        raise ValueError(f"{setting}={folder} cannot be loaded: {_first_line(error)}") from error
    if isinstance(loaded, Dataset):
        loaded = DatasetDict({part.split or "train": loaded})
    return _of_splits(loaded, str(folder), part)


def _of_splits(loaded: Any, source: str, part: Part) -> Raw:
    if part.limit is not None and part.limit < 1:
        raise ValueError(f"{source}: a limit of {part.limit} rows leaves none; give at least 1, or null for all.")
    split = _chosen(loaded, source, part)
    rows = loaded[split]
    if part.limit is not None:
        rows = rows.select(range(min(part.limit, len(rows))))
    if not len(rows):
        raise ValueError(f"{source}: split {split!r} has no rows.")
    return [(f"{source} ({split}), row {number}", dict(row)) for number, row in enumerate(rows, start=1)]


def _chosen(splits: Collection[str], source: str, part: Part) -> str:
    split = part.split
    if split is None:
        usual = [name for name in ("test", "validation", *splits) if name in splits]
        split = usual[0]
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}, only {', '.join(splits)}.{nearest(split, splits)}")
    if (others := [name for name in splits if name != split]) and not part.others_used:
        logger.warning(
            "%s has the split %s too, which is not used; task.eval_split=%s evaluates on it.",
            *(source, " and ".join(others), "test" if "test" in others else others[0]),
        )
    return split


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
