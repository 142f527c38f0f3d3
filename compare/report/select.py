"""Which runs of a study can be compared, and as which arms. What cannot is set apart, run by run, with the reason.

In this order: runs without the metric, and unfinished ones (unless none is finished); runs that measure something else
than the reference; runs that ended far too early; second runs of one seed. Arms are made of settings, not of names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median_high

import numpy as np

from compare.read import TOKEN_COLUMNS, Run, token_column
from compare.report.factors import (
    ABSENT,
    OTHER_COMMAND,
    Settings,
    command_of,
    comparable,
    differing,
    is_measured,
    short_name,
)

SHORT = 0.5  # share of the others' steps, and of their tokens, below which a run is not read at their budget
KEYS = 3  # settings that a name or a sentence lists


@dataclass(frozen=True)
class Apart:
    """A run that is in no number of the report. `kind`: metric, broken, unfinished, measure, task, short or twice."""

    run: Run
    kind: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """`used[i].arm` is the arm's name in this report. `settings`: arm -> what it was told, as far as arms or runs differ;
    empty for arms without a config.yaml. `merged`: arm -> the names of its runs, where there are several."""

    reference: str
    used: tuple[Run, ...]
    apart: tuple[Apart, ...]
    settings: dict[str, dict[str, str]]
    factors: tuple[str, ...]
    merged: dict[str, tuple[str, ...]]


def select(
    runs: Sequence[Run], metric: str, reference: str | None = None, allow: Iterable[str] = (), held_out: bool = False
) -> Selection:
    """Sorts the runs of a study; see the top of the file. `allow`: settings (or the start of their names) that may differ
    although they decide what is measured; `held_out`: the held-out reward is what decides.

    The measure of a task is the reference's, seed by seed where it varies with the seed (a fold of the data, say).

    Raises:
        ValueError: no run logged the metric, the reference is no arm, or none of its runs can be used.
    """
    sound, apart = _sound(runs, metric, held_out)
    settings = comparable(sound)
    allow, evaluation = tuple(allow), held_out or metric.startswith("eval")
    measured = {i: _part(each, allow, evaluation, True) for i, each in settings.items()}
    factors = {i: _part(each, allow, evaluation, False) for i, each in settings.items()}
    names = _names(sound, factors)
    candidates = _references(reference, sound, names)
    for candidate in candidates:
        more: list[Apart] = []
        used = _keep(sound, more, _other_measure(sound, names, measured, candidate, metric))
        used = _keep(used, more, _too_short(used, names))
        used = _keep(used, more, _second(used, names, metric))
        if any(names[id(run)] == candidate for run in used):
            return _selection(candidate, used, [*apart, *more], names, factors)
    why = {f"{a.run.folder}: {a.reason}" for a in more if names[id(a.run)] == candidates[-1]}
    raise ValueError(f"reference={candidates[-1]}: no run of it can be compared ({'; '.join(sorted(why)[:KEYS])}).")


def _selection(
    reference: str, used: Sequence[Run], apart: Sequence[Apart], names: dict[int, str], factors: dict[int, dict[str, str]]
) -> Selection:  # fmt: skip
    merged: dict[str, set[str]] = {}
    told: dict[str, dict[str, dict[str, set[str]]]] = {}  # task -> arm -> key -> values
    for run in used:
        arm = names[id(run)]
        merged.setdefault(arm, set()).add(run.arm)
        if id(run) in factors:
            here = told.setdefault(run.task, {}).setdefault(arm, {})
            for key, value in {**factors[id(run)], **_batch(run)}.items():
                here.setdefault(key, set()).add(value)
    shown = {
        task: {a: {k: " / ".join(sorted(v)) for k, v in e.items()} for a, e in each.items()}
        for task, each in told.items()
    }
    keys = differing([])
    for each in shown.values():
        keys += [key for key in differing(each.values()) if key not in keys]
    table: dict[str, dict[str, str]] = {arm: {} for arm in merged}
    for arm, row in table.items():
        for key in keys if any(arm in each for each in shown.values()) else ():
            values = dict.fromkeys(each[arm].get(key, ABSENT) for each in shown.values() if arm in each)
            row[key] = " / ".join(values)
    return Selection(
        reference,
        tuple(replace(run, arm=names[id(run)]) for run in used),
        tuple(apart),
        table,
        tuple(keys),
        {arm: tuple(sorted(labels)) for arm, labels in merged.items() if len(labels) > 1},
    )


def _sound(runs: Sequence[Run], metric: str, held_out: bool) -> tuple[list[Run], list[Apart]]:
    """Finished runs whose metric can be read (all such, if none is finished), and the others.

    Raises:
        ValueError: no run logged the metric.
    """
    apart: list[Apart] = []
    used = _keep(runs, apart, lambda run: _wrong(run, metric, held_out))
    if not used:
        if not any(metric in run.columns for run in runs):
            runs[0].curve("step", metric)  # raises, with what it did log
        raise ValueError(f"No run can be used: {apart[0].run.folder}: {apart[0].reason}.")
    if any(run.finished for run in used):
        used = _keep(used, apart, lambda run: None if run.finished else ("unfinished", "it is not finished"))
    return used, apart


def _wrong(run: Run, metric: str, held_out: bool) -> tuple[str, str] | None:
    if metric not in run.columns:
        command = f" of {command_of(run.config)}" if run.config else ""
        return "metric", f"a run{command} that logged no `{metric}`"
    if not len(run.curve("step", metric)[0]):
        return "metric", f"it logged no finite `{metric}`"
    for name in TOKEN_COLUMNS:
        if name in run.columns:
            counted = run.columns[name][np.isfinite(run.columns[name])]
            if np.any(np.diff(counted) < 0):
                return "broken", f"its `{name}` falls from one step to a later one"
            if not len(run.curve(name, metric)[0]):
                return "broken", f"no step of it logged both `{name}` and `{metric}`"
    if held_out and evaluated(run) is None:
        return "metric", "its summary.json has no eval_reward_after"
    return None


def evaluated(run: Run) -> float | None:
    """The held-out reward after training, from the summary."""
    value = run.summary.get("eval_reward_after")
    number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if number else None  # type: ignore[arg-type]


def _keep(runs: Iterable[Run], apart: list[Apart], wrong: Callable[[Run], tuple[str, str] | None]) -> list[Run]:
    """The runs with which nothing is wrong; the others go to `apart`."""
    used = []
    for run in runs:
        if found := wrong(run):
            apart.append(Apart(run, *found))
        else:
            used.append(run)
    return used


def _part(settings: Settings, allow: tuple[str, ...], evaluation: bool, measured: bool) -> dict[str, str]:
    return {key: value for key, value in settings.items() if is_measured(key, allow, evaluation) == measured}


def _batch(run: Run) -> dict[str, str]:
    """What the launch made of the settings: equal products of ranks and micro-batches are one and the same batch."""
    rows = run.summary.get("completions_per_step")
    return {"completions per step": str(rows)} if isinstance(rows, int) else {}


def _names(runs: Sequence[Run], factors: dict[int, dict[str, str]]) -> dict[int, str]:
    """id(run) -> the name of its arm. Task by task, runs told the same are one arm, by the shortest of their names
    without settings; runs told different things under one name get what differs behind it.
    Without a config.yaml the name is all there is."""
    names: dict[int, str] = {}
    for task in dict.fromkeys(run.task for run in runs):
        groups: dict[frozenset, list[Run]] = {}
        nameless = [run for run in runs if run.task == task and id(run) not in factors]
        for run in runs:
            if run.task == task and id(run) in factors:
                told = factors[id(run)].items()
                foreign = command_of(run.config) == OTHER_COMMAND  # what makes an arm may not be in its config
                groups.setdefault(frozenset([*told, ("", run.arm)] if foreign else told), []).append(run)
        for run in nameless:
            homes = [key for key, group in groups.items() if any(run.arm == other.arm for other in group)]
            groups.setdefault(homes[0] if len(homes) == 1 else frozenset({run.arm}), []).append(run)
        titled: dict[str, list[list[Run]]] = {}
        for group in groups.values():
            titled.setdefault(min((_title(run) for run in group), key=lambda arm: (len(arm), arm)), []).append(group)
        for label, same in titled.items():
            names |= _apart_by_settings(label, same, factors)
    return names


def _title(run: Run) -> str:
    """What a run of ours is called by its folder, up to the settings in its name (`uniform--beta-0.1`), which
    `_apart_by_settings` adds where they tell arms apart."""
    known = command_of(run.config) != OTHER_COMMAND and not run.titled
    return re.split(r"--|,(?=[^,]*=)", run.arm)[0] or run.arm if known else run.arm


def _apart_by_settings(label: str, same: list[list[Run]], factors: dict[int, dict[str, str]]) -> dict[int, str]:
    told = [next((factors[id(run)] for run in group if id(run) in factors), {}) for group in same]
    keys = differing(each for each in told if each)[:KEYS]
    names: dict[int, str] = {}
    taken: Counter[str] = Counter()
    for group, each in zip(same, told, strict=True):
        what = ", ".join(f"{short_name(key)}={each.get(key, ABSENT)}" for key in keys)
        name = label if len(same) == 1 else f"{label} ({what if each else 'no config.yaml'})"
        taken[name] += 1
        names |= {id(run): name if taken[name] == 1 else f"{name} #{taken[name]}" for run in group}
    return names


def _references(asked: str | None, runs: Sequence[Run], names: dict[int, str]) -> list[str]:
    """The arm asked for, by its name here or that of its runs (the larger of several); or, in the order in which they are
    tried, `uniform` and the other arms.

    Raises:
        ValueError: there is no such arm.
    """
    arms = list(dict.fromkeys(names[id(run)] for run in runs))
    label = asked or "uniform"
    homes = Counter(names[id(run)] for run in runs if run.arm == label)
    homes = homes or Counter(names[id(run)] for run in runs if _strategy(run) == label)
    found = [label] if label in arms else [name for name, _ in homes.most_common(1)]
    if asked and not found:
        raise ValueError(f"reference={asked} is none of the arms; there are: {', '.join(arms)}.")
    return found if asked else list(dict.fromkeys([*found, *arms]))


def _strategy(run: Run) -> str:
    credit = run.config.get("credit")
    return str(credit.get("name", "")) if isinstance(credit, dict) else ""


def _other_measure(
    runs: list[Run], names: dict[int, str], measured: dict[int, dict[str, str]], reference: str, metric: str
) -> Callable[[Run], tuple[str, str] | None]:
    own = sorted((run for run in runs if names[id(run)] == reference), key=lambda run: len(run.arm))
    usual: dict[str, frozenset] = {}
    by_seed: dict[tuple[str, int], list[frozenset]] = {}
    for task in {run.task for run in own}:
        here = [run for run in own if run.task == task and id(run) in measured]
        named = [run for run in here if run.arm == here[0].arm]  # not those of longer names, merged into it
        counts = Counter(frozenset(measured[id(run)].items()) for run in named)
        if counts:
            usual[task] = counts.most_common(1)[0][0]
        for run in here:
            by_seed.setdefault((task, run.seed), []).append(frozenset(measured[id(run)].items()))

    def wrong(run: Run) -> tuple[str, str] | None:
        if all(run.task != other.task for other in own):
            return "task", f"{reference} has no run on the task {run.task}"
        if id(run) not in measured or run.task not in usual:
            return None  # nothing to tell by; the report says so
        seen = by_seed.get((run.task, run.seed), [usual[run.task]])
        wanted = usual[run.task] if usual[run.task] in seen else seen[0]
        mine, theirs = measured[id(run)], dict(wanted)
        if mine == theirs:
            return None
        parts = [
            f"{key} is {_cut(mine.get(key, ABSENT))}, {reference}'s {_cut(theirs.get(key, ABSENT))}"
            for key in differing([mine, theirs])[:KEYS]
        ]
        return "measure", f"its `{metric}` measures something else: {'; '.join(parts)}"

    return wrong


def _too_short(runs: list[Run], names: dict[int, str]) -> Callable[[Run], tuple[str, str] | None]:
    """A run that ended early in steps may have larger batches, one that ended early in tokens may write short texts; a
    run that did both would cut all others to its length. Usual is the (upper) median over arms of their medians."""
    x = token_column(runs)
    ends = {id(run): [float(run.columns[n][np.isfinite(run.columns[n])][-1]) for n in ("step", x)] for run in runs}
    usual: dict[str, list[float]] = {}
    for task in {run.task for run in runs}:
        arms: dict[str, list[list[float]]] = {}
        for run in (run for run in runs if run.task == task):
            arms.setdefault(names[id(run)], []).append(ends[id(run)])
        usual[task] = [median_high(median_high(e[k] for e in each) for each in arms.values()) for k in (0, 1)]

    def wrong(run: Run) -> tuple[str, str] | None:
        (steps, tokens), (others, most) = ends[id(run)], usual[run.task]
        if steps >= SHORT * others or tokens >= SHORT * most:
            return None
        return "short", f"it ended after step {steps:g}, where {others:g} steps are usual here"

    return wrong


def _second(runs: list[Run], names: dict[int, str], metric: str) -> Callable[[Run], tuple[str, str] | None]:
    """One run for each arm, task and seed: the one of the shortest name, then the first folder."""
    first: dict[tuple[str, str, int], Run] = {}
    for run in sorted(runs, key=lambda run: len(run.arm)):
        first.setdefault((names[id(run)], run.task, run.seed), run)

    def wrong(run: Run) -> tuple[str, str] | None:
        other = first[names[id(run)], run.task, run.seed]
        if other is run:
            return None
        (_, mine), (_, theirs) = run.curve("step", metric), other.curve("step", metric)
        alike = len(mine) == len(theirs) and bool(np.all(mine == theirs))
        return (
            "twice",
            f"the same arm, task and seed as {other.folder}, {'with the same' if alike else 'but other'} numbers",
        )

    return wrong


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
