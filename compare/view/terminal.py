"""The viewer for a terminal: the same colours, without a browser."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

PLUS, MINUS = (116, 178, 229), (247, 164, 92)


def print_view(view: dict[str, Any], console: Console, max_rows: int | None = None) -> None:
    """Every completion of the last step of `view`, a line for each strategy. Text is never read as markup."""
    step = view["steps"][-1]
    console.print(Text(f"{view['title']}, step {step['step']}", style="bold"))
    console.print(
        Text.assemble(
            "A\u00b7w: ", ("less", _style(-1.0)), " nothing ", ("more", _style(1.0)), ", each strategy on its own scale"
        )
    )
    for name, reason in step["failed"].items():
        console.print(Text(f"{name} cannot be shown: {reason}", style="yellow"))
    width = max(map(len, step["strategies"]))
    limits = [_limit(step, column) for column in range(len(step["strategies"]))]
    shown = 0
    for group in step["groups"]:
        console.print()
        console.print(Text(group["prompt"], style="bold"))
        for row in group["rows"]:
            if max_rows is not None and shown >= max_rows:
                console.print(Text("more completions: rows=...", style="dim"))
                return
            shown += 1
            facts = [f"reward {_number(row['reward'])}"]
            facts += [f"{name} {_number(value)}" for name, value in zip(step["rewards"], row["rewards"], strict=True)]
            console.print(Text("  ".join([*facts, f"{len(row['tokens'])} tokens"]), style="dim"))
            for column, name in enumerate(step["strategies"]):
                console.print(_line(name.ljust(width), row, column, limits[column]))


def _line(name: str, row: dict[str, Any], column: int, limit: float) -> Text:
    line = Text(f"  {name}  ", style="dim", end="")
    body = Text()
    for token, learns, a, w in zip(row["tokens"], row["learns"], row["A"][column], row["w"][column], strict=True):
        share = (a or 0.0) * (w or 0.0) / limit if limit else 0.0
        body.append(token.replace("\n", "\u23ce"), style=_style(share) if learns else "strike dim")
    line.end = "\n"
    return Text.assemble(line, body)


def _limit(step: dict[str, Any], column: int) -> float:
    pairs = ((a or 0.0) * (w or 0.0) for g in step["groups"] for r in g["rows"]
             for a, w in zip(r["A"][column], r["w"][column], strict=True))  # fmt: skip
    return max((abs(value) for value in pairs), default=0.0)


def _style(share: float) -> str:
    if share == 0:
        return ""
    end = PLUS if share > 0 else MINUS
    red, green, blue = (round(255 + (part - 255) * min(1.0, abs(share))) for part in end)
    return f"#1f2933 on #{red:02x}{green:02x}{blue:02x}" + (" underline" if share < 0 else "")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
