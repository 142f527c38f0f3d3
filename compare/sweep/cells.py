"""What a sweep consists of: one cell for each combination of the swept values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from userio.folder_names import folder_name, short_key

MODEL_KEYS = ("task", "model", "experiment")  # what decides which start a run is built from


@dataclass(frozen=True)
class Axis:
    """One override: `key` and the values it takes (one: fixed). `text` of value i is what a cell is given.

    by: another axis, each value of which has values of its own here: `of`, an axis for each.
    """

    key: str
    values: tuple[str, ...]
    texts: tuple[str, ...]
    by: str | None = None
    of: Mapping[str, Axis] = field(default_factory=dict)

    @property
    def is_swept(self) -> bool:
        return len(self.values) > 1 or self.by is not None


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
    axes: Sequence[Axis],
    defaults: Mapping[str, str],
    experiments: Mapping[str, Mapping[str, str]] | None = None,
    arms: Mapping[str, Sequence[Axis]] | None = None,
) -> tuple[Cell, ...]:
    """All cells. Seeds vary slowest, so that a sweep cut short still holds whole comparisons.

    Args:
        axes: overrides in the order given.
        defaults: choices in force where the command names none: "task" and "credit".
        experiments: the same, for cells with `experiment=<name>`, by that name.
        arms: what named arms have of their own, before `axes`; none: no named arms.

    Raises:
        ValueError: an override given twice, or a seed that is no whole number.
    """
    cells = []
    for name, own in (arms or {"": ()}).items():
        whole = [*own, *axes]
        keys = [axis.key for axis in whole]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            where = f" (arm {name})" if name else ""
            raise ValueError(f"`{twice}` is given twice{where}; put all of its values into one list: {twice}=a,b")
        for picked in _combinations(whole):
            chosen = {key: axis.values[i] for key, (axis, i) in picked.items()}
            unsaid = {**defaults, **(experiments or {}).get(chosen.get("experiment", ""), {})}
            swept = [(key, chosen[key]) for key, (axis, _) in picked.items() if axis.is_swept]
            texts = tuple(axis.texts[i] for axis, i in picked.values())
            cells.append(_cell([("arm", name)] * bool(name) + swept, texts, chosen, unsaid))
    order = [int(value) for axis in axes if axis.key == "seed" for value in axis.values]
    cells.sort(key=lambda cell: order.index(cell.seed) if cell.seed in order else 0)
    return tuple(cells)


def _combinations(axes: Sequence[Axis]) -> Iterator[dict[str, tuple[Axis, int]]]:
    """key -> (axis, number of its value), in the order of the axes, for each combination; seeds vary slowest."""
    free = sorted((axis for axis in axes if axis.by is None), key=lambda axis: axis.key != "seed")
    for choice in product(*(range(len(axis.values)) for axis in free)):
        picked = {axis.key: (axis, i) for axis, i in zip(free, choice, strict=True)}
        values = {key: axis.values[i] for key, (axis, i) in picked.items()}
        own = [axis.of[values[axis.by]] for axis in axes if axis.by is not None]
        for more in product(*(range(len(axis.values)) for axis in own)):
            both = picked | {axis.key: (axis, i) for axis, i in zip(own, more, strict=True)}
            yield {axis.key: both[axis.key] for axis in axes}


def _cell(
    swept: Sequence[tuple[str, str]], overrides: tuple[str, ...], chosen: Mapping[str, str], unsaid: Mapping[str, str]
) -> Cell:
    seed = chosen.get("seed", "0")
    if not re.fullmatch(r"\d+", seed):
        raise ValueError(f"seed={seed}: seeds are whole numbers from 0 on.")
    return Cell(
        id=folder_name("" if swept else "run", swept),
        overrides=overrides,
        arm=_arm(swept, chosen, unsaid),
        task=chosen.get("task", unsaid.get("task", "task")),
        seed=int(seed),
        model=",".join(f"{k}={v}" for k, v in sorted(chosen.items()) if re.split(r"[./@]", k)[0] in MODEL_KEYS),
    )


def sweep_name(axes: Sequence[Axis], script: str, arms: Mapping[str, Sequence[Axis]] | None = None) -> str:
    """A folder name that the same command always gets: the swept keys, the fixed choices, and a hash of all."""
    said = [f"{name}: {axis.texts}" for name, own in (arms or {}).items() for axis in own]
    canonical = "\n".join([*sorted(f"{axis.key}={','.join(axis.texts)}" for axis in axes), *said, script])
    swept = "-".join(["arms"] * bool(arms) + [short_key(axis.key) for axis in axes if axis.is_swept])
    fixed = [(axis.key, axis.values[0]) for axis in axes if not axis.is_swept]
    return folder_name(swept or "run", fixed, canonical, limit=70)


def _arm(swept: Sequence[tuple[str, str]], chosen: Mapping[str, str], defaults: Mapping[str, str]) -> str:
    words = [
        value if key in ("credit", "arm") else f"{_short(key)}={value}"
        for key, value in swept
        if key not in ("seed", "task")
    ]
    return ",".join(words) or chosen.get("credit", defaults.get("credit", "run"))


def _short(key: str) -> str:
    return re.sub(r"^(credit|trainer|model|task)[./]", "", key.lstrip("+~"))
