"""The viewer for a terminal: the same colours, without a browser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PLUS, MINUS = (116, 178, 229), (247, 164, 92)
TOTALS = {"rows": "completions", "groups": "groups", "reward": "mean reward", "reward_sd": "its deviation",
          "same": "groups without a difference", "length": "mean length", "truncated": "cut at their longest",
          "turns": "turns", "idle": "credit on turns that earned nothing", "failed": "environment went wrong",
          "entropy": "mean entropy", "gap": "mean |log-prob now - sampled|"}  # fmt: skip


def print_view(view: dict[str, Any], console: Console, max_rows: int | None = None) -> None:
    """Every completion of each step of `view`, a line for each strategy; then those of the run it is compared with, and the
    totals side by side. Text is never read as markup."""
    sides = []
    for run in filter(None, (view, view.get("other"))):
        for step in run["steps"]:
            _print_step(run["title"], step, console, max_rows)
            sides.append((f"{run['title']}, step {step['step']}", step["summary"]))
    table = Table(title="totals" if len(sides) > 1 else None)
    for name in ("", *(name for name, _ in sides)):
        table.add_column(Text(name, overflow="fold"))
    for key, name in TOTALS.items():
        if any(key in summary for _, summary in sides):
            table.add_row(name, *(_number(summary.get(key)) for _, summary in sides))
    console.print()
    console.print(table)


def _print_step(title: str, step: dict[str, Any], console: Console, max_rows: int | None) -> None:
    console.print(Text(f"{title}, step {step['step']}", style="bold"))
    legend = ("A\u00b7w: ", ("less likely", _style(-1.0)), " nothing ", ("more likely", _style(1.0)))
    console.print(Text.assemble(*legend, " after the update; each strategy on its own scale; dim: not learned from"))
    for name, reason in step["failed"].items():
        console.print(Text(f"{name} cannot be shown: {reason}", style="yellow"))
    width = max(map(len, step["strategies"]))
    limits = [max(abs(limit["low"]), abs(limit["high"])) for limit in step["limits"]["Aw"]]
    shown = 0
    for group in step["groups"]:
        console.print()
        for line in _head(group):
            console.print(line)
        for row in group["rows"]:
            if max_rows is not None and shown >= max_rows:
                console.print(Text("more completions: rows=...", style="dim"))
                return
            shown += 1
            console.print(Text(_facts(row, step["rewards"]), style="dim"))
            for column, name in enumerate(step["strategies"]):
                console.print(_line(name.ljust(width), row, column, limits[column]))
                if (by_turn := shown_by_turn(row, column)) is not None:
                    console.print(Text(f"  {' ' * width}  {by_turn}", style="dim"))


def _head(group: dict[str, Any]) -> Iterator[Text]:
    """The prompt, as a conversation where it is one, and the columns of the data set."""
    for message in group["messages"] or []:
        yield Text.assemble((f"{message['role']}: ", "bold"), message["text"])
        for call in message.get("calls", ()):
            yield Text(f"  {call['name']} {call['arguments']}", style="dim")
    if not group["messages"]:
        yield Text(group["prompt"], style="bold")
    for name, value in group["columns"]:
        yield Text.assemble((f"{name} ", "dim"), value if len(value) <= 300 else value[:299] + "\u2026")


def _facts(row: dict[str, Any], rewards: list[str]) -> str:
    facts = [f"reward {_number(row['reward'])}"]
    facts += [f"{name} {_number(value)}" for name, value in zip(rewards, row["rewards"], strict=True)]
    if row["advantage"] is not None:
        facts.append(f"advantage {row['advantage']:+.3g}")
    flags = [*(["cut"] if row["truncated"] else []), *([f"environment: {row['fault']}"] if row["fault"] else [])]
    return "  ".join([*facts, f"{len(row['tokens'])} tokens", *flags])


def shown_by_turn(row: dict[str, Any], column: int) -> str | None:
    """What each turn earned and the sum of its credit, where that was recorded; None for a single turn."""
    earned, credit, before = [], [], False
    paid = row.get("turn")
    for t, learns in enumerate(row["learns"]):
        if learns and not before:
            earned.append(0.0)
            credit.append(0.0)
        if learns:
            earned[-1] += _or_nan(paid[t]) if paid else 0.0
            credit[-1] += _or_nan(row["A"][column][t]) * _or_nan(row["w"][column][t])
        before = bool(learns)
    if len(credit) < 2:
        return None
    head = "earned \u2192 credit" if paid else "credit"
    earned, credit = _without_rounding(earned), _without_rounding(credit)
    told = [[_signed(e), _signed(c)] if paid else [_signed(c)] for e, c in zip(earned, credit, strict=True)]
    said = [" \u2192 ".join(each) for each in told]
    return f"{head} by turn: {'  '.join(said)}"


def _signed(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:+.3g}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _without_rounding(values: list[float]) -> list[float]:
    """What is a millionth of the largest is left over from rounding."""
    largest = max((abs(value) for value in values if value == value), default=0.0)
    return [0.0 if abs(value) < 1e-6 * largest else value for value in values]


def _line(name: str, row: dict[str, Any], column: int, limit: float) -> Text:
    line = Text(f"  {name}  ", style="dim", end="")
    body = Text()
    for token, learns, a, w in zip(row["tokens"], row["learns"], row["A"][column], row["w"][column], strict=True):
        share = (a or 0.0) * (w or 0.0) / limit if limit else 0.0
        body.append(token.replace("\n", "\u23ce"), style=_style(share) if learns else "dim italic")
    line.end = "\n"
    return Text.assemble(line, body)


def _style(share: float) -> str:
    if share == 0:
        return ""
    end = PLUS if share > 0 else MINUS
    red, green, blue = (round(255 + (part - 255) * min(1.0, abs(share))) for part in end)
    return f"#1f2933 on #{red:02x}{green:02x}{blue:02x}" + (" underline" if share < 0 else "")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
