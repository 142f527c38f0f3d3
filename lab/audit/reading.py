"""An `audit.json` as the page reads it: whatever is missing, unbounded or no number has a place, and nothing is invented."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare.statistics import Estimate
from compare.untrusted import check_folder, read_object

MEASURES = ("nsr", "norm", "cosine", "relative_bias", "critical_batch", "length_push")
SLICES = ("position", "turn", "length", "reward")
FILE = "audit.json"
LARGEST = 1e15


@dataclass(frozen=True)
class Found:
    """A number with its interval. `value` is NaN where there is none; an end may be infinite (nothing bounds it) or NaN (no
    interval); `note` says why."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    note: str = ""

    @property
    def known(self) -> bool:
        return math.isfinite(self.value)

    @property
    def bounded(self) -> bool:
        """Whether both ends are numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def times(self, factor: float) -> Found:
        """The same in another unit; factor > 0."""
        return Found(self.value * factor, self.low * factor, self.high * factor, self.note)

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high, 0)


@dataclass(frozen=True)
class Pair:
    """Noise of the first over that of the second. batches: about so many would tell them apart, where they are not; None: no
    number is in sight, or they are told apart."""

    ratio: Found
    apart: bool
    batches: int | None


@dataclass(frozen=True)
class Slice:
    """One part of the update: tokens of some positions, turns or texts of some lengths, or one reward function."""

    label: str
    share: Found


@dataclass(frozen=True)
class Reading:
    """One audit.

    Attributes:
        groups: names that cannot be told apart by their noise, the quietest first; what has no noise is in none.
        numbers: name -> measure (`MEASURES`) -> number; a measure that is missing is a `Found()`.
        pairs: (a, b) -> noise of a over b.
        shares: kind of slice (`SLICES`) -> name -> slices; kinds of a single slice, which has all, are left out, and those of which no
            share is known.
        places: name -> (length of the text, token position) -> share, where one is known.
        unseen: names of which shares were asked for and none is known.
        completions: rows of one batch; 0 where it is not said.
    """

    about: Mapping[str, Any]
    reference: str
    batches: int
    completions: int
    groups: tuple[tuple[str, ...], ...]
    numbers: Mapping[str, Mapping[str, Found]]
    pairs: Mapping[tuple[str, str], Pair] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, tuple[Slice, ...]]] = field(default_factory=dict)
    places: Mapping[str, Mapping[tuple[str, str], Found]] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    @property
    def order(self) -> list[str]:
        """Every strategy: the ranked ones first, as ranked."""
        ranked = [name for group in self.groups for name in group]
        return [*ranked, *(name for name in self.numbers if name not in ranked)]

    def group_of(self, name: str) -> int | None:
        return next((i for i, group in enumerate(self.groups) if name in group), None)

    def pair(self, one: str, other: str) -> Pair | None:
        """Noise of one over the other, whichever way round it was written down."""
        if (one, other) in self.pairs:
            return self.pairs[one, other]
        turned = self.pairs.get((other, one))
        return None if turned is None else Pair(_inverse(turned.ratio), turned.apart, turned.batches)


def read_audit(path: str | Path) -> tuple[Reading, dict[str, Any]]:
    """Of a folder with an `audit.json`, or of such a file; and the file itself.

    Raises:
        ValueError: there is none, or it holds no audit.
    """
    path = Path(path)
    if not path.is_file():
        check_folder(path, "the folder of an audit (python -m lab.audit)")
        path = path / FILE
    audit = read_object(path)
    if audit is None:
        raise ValueError(f"{path.parent} holds no {FILE}; python -m lab.audit makes one.")
    try:
        return reading_of(audit), audit
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def reading_of(audit: Mapping[str, Any]) -> Reading:
    """Raises ValueError: there is no strategy in it."""
    rows = _mapping(audit.get("strategies"))
    if not rows:
        raise ValueError("no strategy was audited: `strategies` is empty or no mapping.")
    completions = _whole(audit.get("completions"))
    numbers = {str(name): _numbers(_mapping(row), completions) for name, row in rows.items()}
    pairs, shares = _mapping(audit.get("pairs")), _mapping(audit.get("shares"))
    slices = _shares(shares, numbers)
    found = {(a, b): pairs[f"{a}|{b}"] for a in numbers for b in numbers if f"{a}|{b}" in pairs}
    return Reading(
        about=_mapping(audit.get("about")),
        reference=str(audit.get("reference") or ""),
        batches=_whole(audit.get("batches")),
        completions=completions,
        groups=_groups(audit.get("ranking"), numbers),
        numbers=numbers,
        pairs={names: _pair(_mapping(pair)) for names, pair in found.items()},
        shares={kind: rows for kind, rows in slices.items() if any(_is_seen(own) for own in rows.values())},
        places=_places(shares, numbers),
        unseen=tuple(
            name
            for name in numbers
            if (own := [rows[name] for rows in slices.values() if name in rows]) and not any(map(_is_seen, own))
        ),
    )


def measured(value: Any) -> Found:
    """{"value", "low", "high", "note"}, or a bare number, which has no interval. None among the ends is infinite where the other
    end is a number: nothing bounds it there."""
    if not isinstance(value, Mapping):
        return Found(_number(value))
    middle, low, high = (_number(value.get(key)) for key in ("value", "low", "high"))
    if math.isnan(low) != math.isnan(high):
        low, high = (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)
    if low > high:
        low, high = high, low
    if not math.isfinite(middle):  # an infinite value is none; its interval says how large it is at least
        middle = math.nan
    note = value.get("note")
    return Found(middle, low, high, note if isinstance(note, str) else "")


def _numbers(row: Mapping[str, Any], completions: int) -> dict[str, Found]:
    found = {name: measured(row.get(name)) for name in MEASURES}
    if row.get("critical_batch") is None and completions:
        found["critical_batch"] = found["nsr"].times(completions)
    return found | {name: _positive(found[name]) for name in ("nsr", "norm", "critical_batch")}


def _positive(found: Found) -> Found:
    """Of a quantity that is larger than 0: an estimate that is not is none, and no interval reaches below 0."""
    return replace(
        found,
        value=found.value if found.value > 0 else math.nan,
        low=max(0.0, found.low) if found.low < 0 else found.low,
    )


def _pair(pair: Mapping[str, Any]) -> Pair:
    needed = pair.get("batches_needed")
    return Pair(measured(pair.get("noise_ratio")), pair.get("told_apart") is True, _whole(needed) or None)


def _groups(ranking: Any, numbers: Mapping[str, Mapping[str, Found]]) -> tuple[tuple[str, ...], ...]:
    """As ranked; a name that was not audited, or stands twice, is left out."""
    groups, seen = [], set()
    for group in ranking if isinstance(ranking, Sequence) and not isinstance(ranking, str) else ():
        names = [group] if isinstance(group, str) else group if isinstance(group, Sequence) else ()
        kept = [name for name in dict.fromkeys(map(str, names)) if name in numbers and name not in seen]
        seen.update(kept)
        if kept:
            groups.append(tuple(kept))
    return tuple(groups)


def _shares(shares: Mapping[str, Any], names: Any) -> dict[str, dict[str, tuple[Slice, ...]]]:
    found: dict[str, dict[str, tuple[Slice, ...]]] = {}
    for kind in SLICES:
        for name in names:
            slices = _slices(_mapping(shares.get(name)).get(kind))
            if slices:
                found.setdefault(kind, {})[name] = slices
    return {
        kind: rows for kind, rows in found.items() if len({one.label for each in rows.values() for one in each}) > 1
    }


def _is_seen(slices: Sequence[Slice]) -> bool:
    return any(one.share.known for one in slices)


def _places(shares: Mapping[str, Any], names: Any) -> dict[str, dict[tuple[str, str], Found]]:
    found = {}
    for name in names:
        cells = {}
        given = _mapping(shares.get(name)).get("place")
        for part in map(_mapping, given if isinstance(given, list) else ()):
            length = part.get("length")
            if isinstance(length, list) and len(length) == 2 and "from" in part:
                cells[span_of(*length), span_of(part["from"], part.get("to"))] = _share(part.get("share"))
        is_known = any(found.known for found in cells.values())
        if is_known and len({row for row, _ in cells}) > 1 and len({column for _, column in cells}) > 1:
            found[name] = cells
    return found


def _slices(given: Any) -> tuple[Slice, ...]:
    if isinstance(given, Mapping):
        return tuple(Slice(str(label), _share(value)) for label, value in given.items())
    if not isinstance(given, Sequence) or isinstance(given, str):
        return ()
    slices = []
    for place, one in enumerate(given):
        part = _mapping(one)
        slices.append(Slice(_span(part, place), _share(part.get("share", part.get("values")) if part else one)))
    return tuple(slices)


def _span(part: Mapping[str, Any], place: int) -> str:
    """`3`, `4-7` (both inside; `to` stands behind the last) or `8+`."""
    if "from" not in part:
        return str(part.get("label", place))
    return span_of(part["from"], part.get("to"))


def span_of(first: Any, behind: Any) -> str:
    first, last = _number(first), _number(behind) - 1
    if not math.isfinite(last):
        return f"{first:g}+"
    return f"{first:g}" if last <= first else f"{first:g}\u2013{last:g}"


def _share(value: Any) -> Found:
    """An estimate, a number, or one number for each batch, of which the mean is taken."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = [n for n in map(_number, value) if math.isfinite(n)]
        return Found(sum(numbers) / len(numbers)) if numbers else Found()
    return measured(value)


def _inverse(ratio: Found) -> Found:
    """1 / ratio, of numbers that are not negative."""
    value, low, high = (math.nan if math.isnan(end) else 1 / end if end > 0 else math.inf
                        for end in (ratio.value, ratio.high, ratio.low))  # fmt: skip
    return Found(value if math.isfinite(value) else math.nan, low, high, ratio.note)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    """NaN of what is no number; infinite beyond `LARGEST` and 0 below its inverse, where rounding has made it."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    if abs(value) > LARGEST:
        return math.copysign(math.inf, value)
    return 0.0 if abs(value) < 1 / LARGEST else float(value)


def _whole(value: Any) -> int:
    number = _number(value)
    return int(number) if math.isfinite(number) and number > 0 else 0
