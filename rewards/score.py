"""Scores completions without any training, shows which part of a reward passed, and ends with totals.

    python -m rewards.score reward=think_answer --completion "<think>2+2</think><answer>4</answer>"
    python -m rewards.score reward.funcs=[my_rewards.py:polite] --file completions.jsonl --column answer=4
    python -m rewards.score task=gsm8k --file completions.parquet completion_column=response

What is scored is here, of rewards alone. The command itself stands in trainers/command/recorded/score.py, since it knows tasks and
how settings are composed; `main` finds it by its name.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from rewards.build import guard_rewards
from rewards.guard import callable_name, guard_of, is_async
from rewards.guard.clock import run_within
from rewards.text.completions import completion_text
from rewards.text.opened import COLUMN, openings_of, text_with_opening
from rewards.text.turns import turn_spans, turns_of
from userio.visible import visible

_PART_SECONDS = 10.0  # for the parts of one row


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with the reason on standard error."""
    return resolve_name("trainers.command.recorded.score:score_command")(arguments)


@dataclass(frozen=True)
class Sheets:
    """Rows and what the functions gave them.

    Args:
        rows: a prompt, a completion, and a key for each other column.
        funcs, weights: functions that are guarded, and what each counts.
        scores, failed: for each function one score a row (None: no score), and the rows on which it failed, with how.
    """

    rows: list[dict[str, Any]]
    funcs: Sequence[Callable]
    weights: Sequence[float]
    scores: list[list[float | None]]
    failed: list[dict[int, str]]

    @property
    def names(self) -> list[str]:
        return [callable_name(func) for func in self.funcs]

    def total(self, row: int) -> float | None:
        """The weighted sum of the scores that there are."""
        pairs = zip(self.weights, self.scores, strict=True)
        known = [weight * score for weight, column in pairs if (score := column[row]) is not None]
        return sum(known) if known else None


def scored(funcs: Sequence[Callable], weights: Sequence[float], rows: list[dict[str, Any]]) -> Sheets:
    """All rows under all functions. What is guarded says of which rows it failed."""
    scores, failed = [], []
    for func in funcs:
        scores.append(_scores(func, rows))
        guard = guard_of(func)
        failed.append(dict(guard.last_failed) if guard is not None else {})
    return Sheets(rows, funcs, weights, scores, failed)


def totals(sheets: Sheets, threshold: float = 1.0) -> dict[str, dict[str, Any]]:
    """For each function, and for their weighted sum as `reward`: mean and standard deviation (n - 1) of the scores there are,
    the share of these that is at least `threshold`, and how many rows it abstained from or failed on. Of `reward` a row
    passes where every function that scored it is passed."""
    rows = range(len(sheets.rows))
    found = {
        name: _numbers([score for score in column if score is not None])
        | _share([score >= threshold for score in column if score is not None])
        | _without(column, failed)
        for name, column, failed in zip(sheets.names, sheets.scores, sheets.failed, strict=True)
    }
    sums = [sheets.total(row) for row in rows]
    passed = [
        all(score >= threshold for column in sheets.scores if (score := column[row]) is not None)
        for row in rows
        if sums[row] is not None
    ]
    nowhere = {row: "every function" for row in rows if sums[row] is None and all(row in one for one in sheets.failed)}
    found["reward"] = _numbers([one for one in sums if one is not None]) | _share(passed) | _without(sums, nowhere)
    return found


def show_totals(found: dict[str, dict[str, Any]], rows: int) -> None:
    """As a table of plain text."""
    heads = ("mean", "deviation", "passed", "abstained", "failed")
    width = max(24, *map(len, found))
    print(f"{f'{rows} row(s)':<{width}}" + "".join(f"{head:>12}" for head in heads))
    for name, one in found.items():
        cells = [_cell(one["mean"]), _cell(one["deviation"]), _percent(one["passed"])]
        cells += [str(one["abstained"]), str(one["failed"])]
        kinds = ", ".join(f"{count} {kind}" for kind, count in one["kinds"].items())
        line = f"{visible(name):<{width}}" + "".join(f"{cell:>12}" for cell in cells)
        print(line + (f"  ({kinds})" if kinds and name != "reward" else ""))


def show_rows(sheets: Sheets, count: int, as_json: bool = False) -> None:
    """The first rows, each with the parts of its scores."""
    for number in range(min(count, len(sheets.rows))):
        row = sheets.rows[number]
        scores = [column[number] for column in sheets.scores]
        parts = [_parts(own := getattr(guard_of(func), "func", func), row) | _turns(own, row) for func in sheets.funcs]
        (_show_json if as_json else _show)(number, row, sheets, scores, parts)


def tell_failures(sheets: Sheets) -> None:
    """What the guards have counted, on standard error."""
    for func in sheets.funcs:
        if (guard := guard_of(func)) is not None and guard.counts.failed:
            print(f"{guard.__name__}: {guard.counts}", file=sys.stderr)


def _numbers(known: list[float]) -> dict[str, float | None]:
    return {
        "mean": statistics.fmean(known) if known else None,
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
    }


def _share(passed: list[bool]) -> dict[str, float | None]:
    return {"passed": sum(passed) / len(passed) if passed else None}


def _without(column: list[float | None], failed: dict[int, str]) -> dict[str, Any]:
    none = sum(score is None and row not in failed for row, score in enumerate(column))
    return {"abstained": none, "failed": len(failed), "kinds": dict(Counter(failed.values()))}


def _columns(rows: list[dict[str, Any]]) -> dict[str, list]:
    columns = {
        f"{name}s" if name in ("prompt", "completion") else name: [row[name] for row in rows] for name in rows[0]
    }
    # Without a tokenizer, words stand in for the token ids that length rewards count.
    columns.setdefault("completion_ids", [completion_text(text).split() for text in columns["completions"]])
    columns.setdefault(COLUMN, [""] * len(rows))
    return columns


def _scores(func: Callable, rows: list[dict[str, Any]]) -> list[float | None]:
    result = func(**_columns(rows))
    return asyncio.run(result) if is_async(func) else result


def _parts(func: Callable, row: dict[str, Any]) -> dict[str, float | None]:
    """By name; None where a part could not be scored. The guard has said why already."""
    if (inner := getattr(func, "rewards", None)) is not None:  # a composition: what its functions gave
        quiet = guard_rewards(inner, {"max_failed_share": 1.0})
        return {callable_name(part): _scores(part, [row])[0] for part in quiet}
    if not hasattr(func, "parts"):
        return {}
    columns = _columns([row])
    try:
        wanted = {name: columns[name][0] for name in func.columns}
        text = text_with_opening(func, openings_of(columns, 1)[0], completion_text(row["completion"]))
        return run_within(_PART_SECONDS, lambda: func.parts(text, **wanted))
    except Exception:
        return {}


def _turns(func: Callable, row: dict[str, Any]) -> dict[str, float | None]:
    """What each turn earned, as the reward says; nothing where it does not say (the guard has said why already)."""
    if not callable(getattr(func, "turn_rewards", None)):
        return {}
    told: Any = func
    try:
        said = run_within(_PART_SECONDS, lambda: list(told.turn_rewards(**_columns([row]))))[0]
        turns = turns_of(row["completion"])
        spans = turn_spans(said, max(len(turns), len(said or ()))) or []
    except Exception:
        return {}
    earned = {span.turn: span.value for span in spans}
    last = max([len(turns) - 1, *(turn for turn in earned if turn is not None)])
    return {f"turn {turn + 1}": earned.get(turn, 0.0) for turn in range(last + 1)} if spans else {}


def _show(number: int, row: dict, sheets: Sheets, scores: list, parts: list[dict]) -> None:
    print(f"{number + 1}. {visible(_short(completion_text(row['completion'])))}")
    columns = zip(sheets.names, sheets.weights, scores, parts, sheets.failed, strict=True)
    for name, weight, score, pieces, failed in columns:
        why = f" ({failed[number]})" if number in failed else ""
        print(f"   {name:<24} {_number(score)}{why}" + (f"  x {weight:g}" if weight != 1 else ""))
        for part, value in pieces.items():
            if part != name:
                print(f"      {_sign(value)} {part:<24} {_number(value)}")
    print(f"   {'reward':<24} {_number(sheets.total(number))}\n")


def _show_json(number: int, row: dict, sheets: Sheets, scores: list, parts: list[dict]) -> None:
    record = {
        "row": number,
        "completion": row["completion"],
        "scores": dict(zip(sheets.names, scores, strict=True)),
        "parts": dict(zip(sheets.names, parts, strict=True)),
        "reward": sheets.total(number),
    }
    print(json.dumps(record, ensure_ascii=False))


def _sign(value: float | None) -> str:
    return "?" if value is None else ("+" if value > 0 else "-")


def _number(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.4g}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _short(text: str, width: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    sys.exit(main())
