"""Several audits side by side, checkpoints of one run or models: does the order of the strategies change?"""

from __future__ import annotations

import math
import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from compare.report.numbers import count, number
from compare.report.sheet import Cells, TitledTable
from lab.audit.reading import MEASURES, Found, Reading
from lab.audit.words import joined, told, told_percent

PAIRS_NAMED = 4  # pairs of strategies that a sentence lists
_ABOUT = ("run", "step", "model", "task", "command", "commit", "mean_reward", "mean_length", "flat_groups")


@dataclass(frozen=True)
class Audits:
    """Several audits.

    Attributes:
        readings: in order, by what they are called.
        runs: of which run each is, as many; "": of none that it names.
        order: by what they are ordered, a sentence.
    """

    readings: Mapping[str, Reading]
    runs: tuple[str, ...]
    order: str

    @property
    def names(self) -> list[str]:
        """Strategies that more than one of them has, in the order of the first."""
        seen: dict[str, int] = {}
        for reading in self.readings.values():
            for name in reading.order:
                seen[name] = seen.get(name, 0) + 1
        return [name for name, often in seen.items() if often > 1]

    @property
    def noise(self) -> str:
        """The measure of noise that can be laid side by side: that of a batch only where all batches are of one size."""
        return "nsr" if len({reading.completions for reading in self.readings.values()}) == 1 else "critical_batch"

    @property
    def by_run(self) -> list[list[str]]:
        """Labels of the audits of each run, in order."""
        found: dict[str, list[str]] = {}
        for label, run in zip(self.readings, self.runs, strict=True):
            found.setdefault(run, []).append(label)
        return list(found.values())


def audits_of(readings: Sequence[tuple[Path, Reading]]) -> Audits:
    """Run by run and by the step of the checkpoint, where all say one; else by folder, in the order given.

    Raises:
        ValueError: fewer than two, or no strategy that two share.
    """
    if len(readings) < 2:
        raise ValueError("give at least two audits: python -m lab.audit.compare audits/one audits/other")
    steps = [_step(reading) for _, reading in readings]
    runs = [_run(reading) for _, reading in readings]
    names = _short_names([path for path, _ in readings])
    if silent := [name for name, step in zip(names, steps, strict=True) if step is None]:
        many = "do" if len(silent) > 1 else "does"
        which = "none of them says" if len(silent) == len(names) else f"{joined(silent)} {many} not say"
        found = _as_given(names, readings, f"In the order given, as {which} the step of a run")
    elif len(set(zip(runs, steps, strict=True))) < len(steps):
        found = _as_given(names, readings, "In the order given, as two of them are of one step of one run")
    else:
        found = _by_step(readings, runs)
    if not found.names:
        raise ValueError("no two of these audits have a strategy in common, so there is nothing to lay side by side.")
    return found


def _as_given(names: Sequence[str], readings: Sequence[tuple[Path, Reading]], order: str) -> Audits:
    return Audits(dict(zip(names, (reading for _, reading in readings), strict=True)), ("",) * len(names), order)


def _by_step(readings: Sequence[tuple[Path, Reading]], runs: Sequence[str]) -> Audits:
    several = list(dict.fromkeys(runs))
    short = dict(zip(several, _short_names([Path(run) for run in several]), strict=True))
    rows = [
        (several.index(run), _step(reading) or 0, run, reading)
        for run, (_, reading) in zip(runs, readings, strict=True)
    ]
    rows.sort(key=lambda row: row[:2])
    one = len(several) == 1
    return Audits(
        {f"step {step}" if one else f"{short[run] or 'no run'} step {step}": reading for _, step, run, reading in rows},
        tuple(run for _, _, run, _ in rows),
        "By the step that each audit says" if one else "Run by run in the order given, and by step within a run",
    )


def _step(reading: Reading) -> int | None:
    step = reading.about.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def _run(reading: Reading) -> str:
    run = reading.about.get("run")
    return os.path.normpath(run) if isinstance(run, str) and run else ""


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ; numbers behind those that do not."""
    parts = [path.parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{path.name or path} #{i + 1}" for i, path in enumerate(paths)]


def order_kept(one: Reading, other: Reading) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of strategies that both audits tell apart by their noise: those in the same order, and those whose order has turned,
    the quieter one of the first audit first."""
    same, turned = [], []
    names = [name for name in one.order if name in other.numbers]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            before, after = one.pair(a, b), other.pair(a, b)
            if (
                before is None
                or after is None
                or not (before.apart and after.apart and before.ratio.known and after.ratio.known)
            ):
                continue
            quieter = (a, b) if before.ratio.value < 1 else (b, a)
            (same if (before.ratio.value < 1) == (after.ratio.value < 1) else turned).append(quieter)
    return same, turned


def whether_it_holds(audits: Audits) -> str:
    """The page's first sentence."""
    found = [order_kept(one, other) for one, other in combinations(audits.readings.values(), 2)]
    if any(turned for _, turned in found):
        return "The order of the strategies by noise changes"
    seen = any(same for same, _ in found)
    return (
        "The order of the strategies by noise holds, where it can be seen"
        if seen
        else "Nothing is known of a change of the order"
    )


def changes(audits: Audits) -> list[str]:
    """By what they are ordered; whether the ranking changes, from each audit of a run to the next, from its first to its last, and from
    run to run; noise and bias that moved."""
    lines = [f"{audits.order}: {', '.join(audits.readings)}.", *_unlike(audits)]
    silent = []
    for before, after in _compared(audits):
        same, turned = order_kept(audits.readings[before], audits.readings[after])
        both = len(same) + len(turned)
        if not both:
            silent.append(f"from {before} to {after}")
            continue
        said = f"From {before} to {after}: of {count(both, 'pair')} told apart in both, {len(same)} keep their order"
        listed = [f"{a} was quieter than {b}" for a, b in turned[:PAIRS_NAMED]]
        more = f" and {len(turned) - PAIRS_NAMED} more" if len(turned) > PAIRS_NAMED else ""
        lines.append(
            f"{said}, {len(turned)} turn round: {', '.join(listed)}{more}." if turned else f"{said}: the ranking holds."
        )
    if silent:
        where = silent[0] if len(silent) == 1 else f"{', '.join(silent[:-1])} and {silent[-1]}"
        lines.append(
            f"{where[0].upper()}{where[1:]}: no pair of strategies is told apart in both, so nothing is known of the order."
        )
    for labels in audits.by_run:
        lines += _moves(audits, labels) if len(labels) > 1 else []
    return lines


def _compared(audits: Audits) -> list[tuple[str, str]]:
    """Within each run neighbours, and the first with the last; of two runs the audits of one step, else their last ones."""
    pairs = []
    for labels in audits.by_run:
        pairs += [*pairwise(labels), *([(labels[0], labels[-1])] if len(labels) > 2 else [])]
    for one, other in pairwise(audits.by_run):
        by_step = [{_step(audits.readings[label]): label for label in labels} for labels in (one, other)]
        both = [step for step in by_step[0] if step in by_step[1]]
        pairs += [(by_step[0][step], by_step[1][step]) for step in both] or [(one[-1], other[-1])]
    return pairs


def _unlike(audits: Audits) -> list[str]:
    """What makes audits hard to compare."""
    readings, lines = audits.readings.values(), []
    if audits.noise != "nsr":
        sizes = joined(sorted({str(reading.completions) for reading in readings}, key=int))
        lines.append(
            f"Their batches have {sizes} completions, so noise is told by the critical batch, which does not depend on that."
        )
    tasks = sorted({str(reading.about.get("task")) for reading in readings})
    if len(tasks) > 1:
        lines.append(f"They are of different tasks ({joined(tasks)}).")
    return lines


def _moves(audits: Audits, labels: Sequence[str]) -> list[str]:
    """From the first audit to the last one that shows it."""
    first, lines = audits.readings[labels[0]], []
    noise = "noise over signal" if audits.noise == "nsr" else "the critical batch"
    for measure, said in ((audits.noise, noise), ("relative_bias", "bias")):
        for word, sign in (("rises", 1), ("falls", -1)):
            for label in reversed(labels[1:]):
                if moved := _moved(first, audits.readings[label], measure, sign):
                    who = joined(moved)
                    lines.append(f"From {labels[0]} to {label} {said} {word} beyond its intervals under {who}.")
                    break
    return lines


def _moved(first: Reading, last: Reading, measure: str, sign: int) -> list[str]:
    moved = []
    for name in (name for name in first.order if name in last.numbers):
        a, b = first.numbers[name][measure], last.numbers[name][measure]
        if (b.low > a.high) if sign > 0 else (b.high < a.low):
            moved.append(name)
    return moved


def side_by_side(audits: Audits) -> list[TitledTable]:
    """Noise over signal, rank and bias of each strategy, an audit a column."""
    readings = audits.readings
    header: Cells = ["strategy", *readings]

    def rows(cell) -> list[Cells]:
        return [[name, *(cell(reading, name) if name in reading.numbers else "" for reading in readings.values())]
                for name in audits.names]  # fmt: skip

    def rank(reading: Reading, name: str) -> str:
        group = reading.group_of(name)
        return "" if group is None else str(group + 1)

    def bias(reading: Reading, name: str) -> str:
        return "reference" if name == reading.reference else told_percent(reading.numbers[name]["relative_bias"])

    tables: list[TitledTable] = [
        ("Noise over signal", header, rows(lambda reading, name: told(reading.numbers[name]["nsr"]))),
        ("Rank by noise", header, rows(rank)),
        ("Bias", header, rows(bias)),
        (
            "Critical batch (completions)",
            header,
            rows(lambda reading, name: told(reading.numbers[name]["critical_batch"])),
        ),
    ]
    if facts := _facts(readings.values()):
        tables.append(("What was audited", ["of the policy", *readings], facts))
    return tables


def _facts(readings: Iterable[Reading]) -> list[Cells]:
    """How good the policy is at each, and how long it writes."""
    readings, found = list(readings), []
    for key, said in (
        ("mean_reward", "mean reward"),
        ("mean_length", "mean length in tokens"),
        ("flat_groups", "flat groups"),
    ):
        values = [reading.about.get(key) for reading in readings]
        if any(isinstance(value, float) for value in values):
            found.append([said, *(number(value) if isinstance(value, float) else "" for value in values)])
    return found


def as_record(audits: Audits, found: Sequence[str]) -> dict[str, Any]:
    """Plain values, for a program: what is concluded, and every number of every strategy with its interval, audit by audit."""
    return {
        "order": audits.order,
        "found": list(found),
        "audits": {
            label: {
                **{key: reading.about.get(key) for key in _ABOUT},
                "batches": reading.batches,
                "completions": reading.completions,
                "ranking": [list(group) for group in reading.groups],
                "strategies": {
                    name: {measure: _plain(reading.numbers[name][measure]) for measure in MEASURES}
                    for name in reading.order
                },
            }
            for label, reading in audits.readings.items()
        },
    }


def _plain(found: Found) -> dict[str, float | None]:
    return {key: value if math.isfinite(value := getattr(found, key)) else None for key in ("value", "low", "high")}
