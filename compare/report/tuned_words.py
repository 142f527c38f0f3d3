"""What was tuned, on which seeds, and what the choice cannot tell: in sentences and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import isfinite

from compare.report.design import level_text
from compare.report.numbers import count, number, with_interval
from compare.report.tuning import Tuned


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 0, 1`, `seeds 2 to 9`."""
    if len(seeds) > 3 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def how_tuned(tuned: Tuned) -> str:
    compared = tuned.design.compared.name
    what = " and ".join(factor.name for factor in tuned.design.tuned)
    chosen = f"Each {compared} is taken at its best {what}, chosen on {seeds_in_words(tuned.tuning)}"
    if not tuned.test:
        return (
            f"{chosen}. No other seed is left to compare on, so nothing is compared: the score that won a choice is above its "
            "own truth, the more so the more were tried. Run more seeds; with six, five are left."
        )
    return f"{chosen} and compared on {seeds_in_words(tuned.test)}, which chose nothing."


def edges(tuned: Tuned) -> list[str]:
    """Where the best may lie outside of what was tried."""
    by_end: dict[str, list[str]] = {}
    for level, end in tuned.edges.items():
        by_end.setdefault(end, []).append(level_text(level))
    return [
        f"{', '.join(levels)}: the best is {end}, so a better one may lie beyond it." for end, levels in by_end.items()
    ]


def spread_of_choice(tuned: Tuned) -> Iterable[str]:
    what = " and ".join(factor.name for factor in tuned.design.tuned)
    few = len(tuned.tuning)
    yield (
        f"The best {what} was chosen by {count(few, 'seed')} from {_range(tuned.tried.values())} tried for each; another "
        "one may be as good, and one between them better."
    )
    if len(set(tuned.tried.values())) > 1:
        most = max(tuned.tried, key=lambda level: tuned.tried[level])
        yield f"{level_text(most)} had more to choose from than others, which is an advantage that these seeds do measure."


def _range(counts: Iterable[int]) -> str:
    counts = sorted(counts)
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def short_reference(name: str) -> str:
    """What the head of a column calls it; a long name stands in its row."""
    return name if len(name) <= 24 else "the reference"


def tuned_table(tuned: Tuned, comparisons: Iterable, score: str) -> tuple[list[str], list[list[str]]]:
    """A row for each level of what is compared: what was chosen, by what, and what it does on the other seeds."""
    against = {one.arm: one for one in comparisons}
    header = [tuned.design.compared.name, *(f"best {factor.name}" for factor in tuned.design.tuned), "tried"]
    header += [f"{score} on {seeds_in_words(tuned.tuning)} (chose)"]
    if tuned.test:
        header += [
            f"{score} on {seeds_in_words(tuned.test)}",
            f"less {short_reference(level_text(tuned.reference))}",
            "declared",
        ]
    rows = []
    for level, arm in sorted(tuned.chosen.items(), key=lambda item: item[0] != tuned.reference):
        row = [
            level_text(level),
            *map(level_text, tuned.design.of[arm][1:]),
            str(tuned.tried[level]),
            number(tuned.found[level], scale=abs(tuned.found[level]) / 10),
        ]
        if tuned.test:
            one = against.get(level)
            verdict = (
                "reference" if level == tuned.reference else "n/a" if one is None else "yes" if one.declared else "no"
            )
            score_there = tuned.levels.get(level)
            row += ["n/a" if score_there is None else with_interval(score_there)]
            row += ["" if one is None else with_interval(one.difference, sign=True), verdict]
        rows.append(row)
    return header, rows


def effects_table(tuned: Tuned) -> tuple[list[str], list[list[str]]]:
    rows = [
        [effect.factor.name, level_text(effect.level), level_text(effect.reference), str(effect.settings),
         str(effect.difference.seeds), with_interval(effect.difference, sign=True)]
        for effect in tuned.effects
    ]  # fmt: skip
    return ["factor", "level", "less", "settings averaged", "seeds", "difference"], rows


def tuned_rows(tuned: Tuned, comparisons: Iterable) -> tuple[list[str], list[list[str]]]:
    """As `tuned_table`, in full precision."""
    against = {one.arm: one for one in comparisons}
    header = [tuned.design.compared.key, *(factor.key for factor in tuned.design.tuned), "arm", "tried", "tuning_seeds",
              "tuning_score", "test_seeds", "score", "low", "high", "reference", "difference", "difference_low",
              "difference_high", "p", "p_holm", "declared"]  # fmt: skip
    rows = []
    for level, arm in tuned.chosen.items():
        found, one = tuned.levels.get(level), against.get(level)
        score = ["", "", ""] if found is None else [_full(v) for v in (found.value, found.low, found.high)]
        row = [level, *tuned.design.of[arm][1:], arm, str(tuned.tried[level]), " ".join(map(str, tuned.tuning)),
               _full(tuned.found[level]), " ".join(map(str, tuned.test)), *score, tuned.reference]  # fmt: skip
        numbers = (
            () if one is None else (one.difference.value, one.difference.low, one.difference.high, one.p, one.p_holm)
        )
        row += [*map(_full, numbers), str(one.declared).lower()] if one is not None else [""] * 6
        rows.append(row)
    return header, rows


def effects_rows(tuned: Tuned) -> tuple[list[str], list[list[str]]]:
    header = ["factor", "level", "reference", "settings", "seeds", "difference", "low", "high", "p"]
    rows = [
        [one.factor.key, one.level, one.reference, str(one.settings), str(one.difference.seeds),
         *map(_full, (one.difference.value, one.difference.low, one.difference.high, one.difference.p))]
        for one in tuned.effects
    ]  # fmt: skip
    return header, rows


def _full(value: float) -> str:
    return json.dumps(float(value)) if isfinite(value) else ""
