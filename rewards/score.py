"""Scores completions without any training, and shows which part of a reward passed.

    python -m rewards.score reward=think_answer --completion "<think>2+2</think><answer>4</answer>"
    python -m rewards.score reward.funcs=[my_rewards.py:polite] --file completions.jsonl --column answer=4

`--file`: .jsonl, .json, .csv or .parquet with the columns completion (or text), prompt, and one per dataset column; or
any other text file, one completion a line. `--completion` may be repeated; `--completion -` reads standard input. `--json` prints
one JSON object a row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rewards.build import check_reward_columns, check_weights, choose_rewards, guard_rewards, resolve_rewards
from rewards.guard import callable_name, guard_of, is_async
from rewards.guard.clock import run_within
from rewards.likelihood import REFERENCE
from rewards.load import GIVEN
from rewards.text.completions import completion_text
from rewards.text.opened import COLUMN, openings_of, text_with_opening
from userio.read import SUFFIXES, kind_of, nearest, read_lines, read_rows
from userio.tracebacks import tell
from userio.visible import visible
from userio.words import word_of

_PART_SECONDS = 10.0  # for the parts of one row


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with the reason on standard error."""
    options, guarded = _parser().parse_intermixed_args(arguments), []
    try:
        node = choose_rewards(options.reward, Path.cwd(), options.config_dir)
        funcs = resolve_rewards(node["funcs"], Path.cwd())
        weights = check_weights(node.get("weights"), funcs) or [1.0] * len(funcs)
        rows = _rows(options)
        if not rows:
            raise ValueError('Nothing to score; give --completion "..." or --file completions.jsonl.')
        check_reward_columns(funcs, rows[0])
        guard = {**(node.get("guard") or {}), "max_failed_share": 1.0}
        guard.pop("enabled", None)
        guarded = guard_rewards(funcs, guard)
        scores = [_scores(func, rows) for func in guarded]
        parts = [[_parts(func, row) for row in rows] for func in funcs]
    except ValueError as error:
        return tell("rewards.score", error)
    finally:
        for func in guarded:
            if (guard_ := guard_of(func)) is not None:
                guard_.close()
    show = _show_json if options.json else _show
    for number, row in enumerate(rows):
        show(number, row, funcs, weights, [column[number] for column in scores], [column[number] for column in parts])
    for func in guarded:
        if (guard := guard_of(func)) is not None and guard.counts.failed:
            print(f"{guard.__name__}: {guard.counts}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rewards.score", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "reward", nargs="+", help="reward=<name in configs/reward>, reward.funcs=[...], reward.guard.timeout=5"
    )
    parser.add_argument(
        "--completion", action="append", default=[], help="a completion; repeat for more; - is standard input"
    )
    parser.add_argument("--file", type=Path, help="completions: .jsonl, .json, .csv, .parquet, or one a line")
    parser.add_argument("--prompt", default="", help="the prompt of every --completion")
    parser.add_argument(
        "--opened", default="", metavar="TEXT", help="what the prompt has opened, such as <think> (docs/rewards.md)"
    )
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=VALUE", help="a dataset column, as JSON or text"
    )
    parser.add_argument(
        "--config-dir", action="append", default=[], help="a folder of your own YAMLs, laid out like configs/"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    return parser


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    shared: dict[str, Any] = {COLUMN: options.opened} if options.opened else {}
    for column in options.column:
        name, value = word_of(column)
        if value is None:
            raise ValueError(f"--column {column}: write NAME=VALUE.")
        shared[name] = _json_or_text(value)
    texts = [sys.stdin.read() if text == "-" else text for text in options.completion]
    rows = [{"prompt": options.prompt, "completion": text, **shared} for text in texts]
    if options.file is not None:
        rows += [{"prompt": options.prompt, **shared, **row} for row in _file_rows(options.file)]
    names = {name for row in rows for name in row}
    if clash := names & (set(GIVEN) - {"completion_ids", COLUMN, REFERENCE} | {"self"}):
        raise ValueError(
            f"Rename the column {sorted(clash)[0]!r}: rewards are called with something else by that name."
        )
    return [{name: row.get(name) for name in sorted(names)} for row in rows]


def _file_rows(file: Path) -> list[dict[str, Any]]:
    if kind_of(file) not in SUFFIXES:
        return [{"completion": line} for _, line in read_lines(file, "--file") if line.strip()]
    rows = []
    for place, row in read_rows(file, "--file"):
        if "completion" not in row and "text" in row:
            row = {("completion" if name == "text" else name): value for name, value in row.items()}
        if "completion" not in row:
            names = ", ".join(row) or "nothing"
            raise ValueError(
                f'{place}: no column "completion" (nor "text"); there is: {names}.{nearest("completion", set(row) - {"prompt"})}'
            )
        try:
            completion_text(row["completion"])
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        rows.append(row)
    return rows


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


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


def _show(number: int, row: dict, funcs: list[Callable], weights: list[float], scores: list, parts: list[dict]) -> None:
    print(f"{number + 1}. {visible(_short(completion_text(row['completion'])))}")
    for func, weight, score, pieces in zip(funcs, weights, scores, parts, strict=True):
        print(f"   {callable_name(func):<24} {_number(score)}" + (f"  x {weight:g}" if weight != 1 else ""))
        for name, value in pieces.items():
            if name != callable_name(func):
                print(f"      {_sign(value)} {name:<24} {_number(value)}")
    print(f"   {'reward':<24} {_number(_total(weights, scores))}\n")


def _show_json(number: int, row: dict, funcs: list, weights: list[float], scores: list, parts: list[dict]) -> None:
    names = [callable_name(func) for func in funcs]
    record = {
        "row": number,
        "completion": row["completion"],
        "scores": dict(zip(names, scores, strict=True)),
        "parts": dict(zip(names, parts, strict=True)),
        "reward": _total(weights, scores),
    }
    print(json.dumps(record, ensure_ascii=False))


def _total(weights: list[float], scores: list[float | None]) -> float | None:
    known = [weight * score for weight, score in zip(weights, scores, strict=True) if score is not None]
    return sum(known) if known else None


def _sign(value: float | None) -> str:
    return "?" if value is None else ("+" if value > 0 else "-")


def _number(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.4g}"


def _short(text: str, width: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    sys.exit(main())
