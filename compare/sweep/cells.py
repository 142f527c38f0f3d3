"""What a sweep consists of: one cell for each combination of the swept values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from userio.folder_names import folder_name, short_key

MODEL_KEYS = ("task", "model", "experiment")  # what decides which start a run is built from


@dataclass(frozen=True)
class Axis:
    """One override: `key` and the values it takes (one: fixed). `text` of value i is what a cell is given."""

    key: str
    values: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def is_swept(self) -> bool:
        return len(self.values) > 1


@dataclass(frozen=True)
class Cell:
    """One run. `arm`, `task` and `seed` say what it is compared with; `model` equal: the same start is built."""

    id: str
    overrides: tuple[str, ...]
    arm: str
    task: str
    seed: int
    model: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"overrides": list(self.overrides)}

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> Cell:
        return Cell(**{**value, "overrides": tuple(value["overrides"])})


def plan_cells(
    axes: Sequence[Axis], defaults: Mapping[str, str], experiments: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[Cell, ...]:
    """All cells. Seeds vary slowest, so that a sweep cut short still holds whole comparisons.

    Args:
        axes: overrides in the order given.
        defaults: choices in force where the command names none: "task" and "credit".
        experiments: the same, for cells with `experiment=<name>`, by that name.

    Raises:
        ValueError: an override given twice, or a seed that is no whole number.
    """
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"`{twice}` is given twice; put all of its values into one list: {twice}=a,b")
    ordered = sorted(axes, key=lambda axis: axis.key != "seed")
    cells = []
    for choice in product(*(range(len(axis.values)) for axis in ordered)):
        picked = dict(zip((axis.key for axis in ordered), choice, strict=True))
        chosen = {axis.key: axis.values[picked[axis.key]] for axis in axes}
        swept = [(axis.key, chosen[axis.key]) for axis in axes if axis.is_swept]
        unsaid = {**defaults, **(experiments or {}).get(chosen.get("experiment", ""), {})}
        seed = chosen.get("seed", "0")
        if not re.fullmatch(r"\d+", seed):
            raise ValueError(f"seed={seed}: seeds are whole numbers from 0 on.")
        cells.append(
            Cell(
                id=folder_name("" if swept else "run", swept),
                overrides=tuple(axis.texts[picked[axis.key]] for axis in axes),
                arm=_arm(swept, chosen, unsaid),
                task=chosen.get("task", unsaid.get("task", "task")),
                seed=int(seed),
                model=",".join(f"{k}={v}" for k, v in sorted(chosen.items()) if re.split(r"[./@]", k)[0] in MODEL_KEYS),
            )
        )
    return tuple(cells)


def sweep_name(axes: Sequence[Axis], script: str) -> str:
    """A folder name that the same command always gets: the swept keys, the fixed choices, and a hash of all."""
    canonical = "\n".join([*sorted(f"{axis.key}={','.join(axis.texts)}" for axis in axes), script])
    swept = "-".join(short_key(axis.key) for axis in axes if axis.is_swept)
    fixed = [(axis.key, axis.values[0]) for axis in axes if not axis.is_swept]
    return folder_name(swept or "run", fixed, canonical, limit=70)


def _arm(swept: Sequence[tuple[str, str]], chosen: Mapping[str, str], defaults: Mapping[str, str]) -> str:
    words = [
        value if key == "credit" else f"{_short(key)}={value}" for key, value in swept if key not in ("seed", "task")
    ]
    return ",".join(words) or chosen.get("credit", defaults.get("credit", "run"))


def _short(key: str) -> str:
    return re.sub(r"^(credit|trainer|model|task)[./]", "", key.lstrip("+~"))
