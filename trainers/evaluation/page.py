"""An evaluation as a table: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainers.evaluation.talks import lines_of_talk
from userio.visible import visible

_PLACES = {"length": 1}  # behind the point; three for all that has none here


def letters(count: int) -> list[str]:
    """A, B, ... Z, A2, B2, ..."""
    return [chr(ord("A") + i % 26) + (str(i // 26 + 1) if i >= 26 else "") for i in range(count)]


def interval_text(interval: Mapping[str, Any] | None, name: str = "", sign: bool = False) -> str:
    """`0.312 [0.280, 0.344]`, from what `Interval.as_dict` gave."""
    if interval is None or interval["value"] is None:
        return "-"
    form = f"{'+' if sign else ''}.{_PLACES.get(name, 3)}f"
    value = f"{interval['value']:{form}}"
    if interval["low"] is None:
        return value
    return f"{value} [{interval['low']:{form}}, {interval['high']:{form}}]"


def tables(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, heads, rows) of each table that says something: measures, differences, completions without a score."""
    models = evaluation["models"]
    names = list(models[0]["measures"])
    heads = [model["letter"] for model in models] if len(models) > 1 else ["mean"]
    yield (
        f"mean over {evaluation['prompts']} prompts [{100 * evaluation['level']:g} % interval]",
        ["", *heads],
        [[name, *(interval_text(model["measures"].get(name), name) for model in models)] for name in names],
    )
    if evaluation["differences"]:
        yield (
            "difference on the same prompts [interval]",
            ["", *(f"{one['of']} - {one['to']}" for one in evaluation["differences"])],
            [
                [
                    name,
                    *(interval_text(one["measures"].get(name), name, sign=True) for one in evaluation["differences"]),
                ]
                for name in names
            ],
        )
    rows = [
        [model["letter"], name, str(counts["abstained"]), _failures(counts)]
        for model in models
        for name, counts in model["unscored"].items()
        if counts["abstained"] or counts["failed"]
    ]
    if rows:
        yield "completions without a score", ["", "reward function", "abstained", "failed"], rows


def notes(evaluation: Mapping[str, Any]) -> list[str]:
    """What is to be read beside the tables."""
    lines = [f"{model['letter']}  {model['name']}" for model in evaluation["models"]]
    lines.append(
        f"task {evaluation['task']}, {evaluation['n']} completion(s) a prompt, seed {evaluation['seed']}; a completion passes "
        f"with {evaluation['passes']} >= {evaluation['threshold']:g}"
    )
    if len(evaluation["differences"]) > 1:
        lines.append("Each interval stands for itself: of twenty differences that are none, one will exclude 0.")
    return lines


def print_evaluation(evaluation: Mapping[str, Any]) -> None:
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print()
    for line in notes(evaluation):
        console.print(escape(visible(line)), soft_wrap=True)
    for title, heads, rows in tables(evaluation):
        table = Table(title=escape(visible(title)), title_justify="left")
        for place, head in enumerate(heads):
            table.add_column(escape(visible(head)), justify="left" if place == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(escape(visible(cell)) for cell in row))
        console.print(table)


def markdown_of(evaluation: Mapping[str, Any], command: str) -> str:
    parts = [f"# Evaluation on {evaluation['task']}", f"    {command}"]
    parts.append("\n".join(f"- {_plain(line)}" for line in notes(evaluation)))
    for title, heads, rows in tables(evaluation):
        lines = [_line(heads), "|" + "---|" * len(heads), *(_line(row) for row in rows)]
        parts += [f"## {title[0].upper()}{title[1:]}", "\n".join(lines)]
    for model in evaluation["models"]:
        if model["samples"]:
            parts.append(f"## Completions of {model['letter']}")
        for sample in model["samples"]:
            scores = ", ".join(f"{name} {_score(value)}" for name, value in sample["scores"].items())
            fault = f", the environment went wrong: {sample['fault'][1]}" if sample.get("fault") else ""
            parts.append(
                f"{_plain(scores + fault)}, {sample['tokens']} tokens" + ("" if sample["ended"] else ", cut off")
            )
            parts.append(_block("\n".join(_lines(sample))))
    return "\n\n".join(parts) + "\n"


def show_samples(evaluation: Mapping[str, Any]) -> None:
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    for model in evaluation["models"]:
        for sample in model["samples"]:
            scores = ", ".join(f"{name} {_score(value)}" for name, value in sample["scores"].items())
            first, *others = _lines(sample)
            console.print(f"\n{escape(model['letter'])}  [bold]{escape(visible(first))}[/bold]")
            for line in others if sample.get("messages") else others[1:]:
                console.print(f"   {escape(visible(line))}")
            console.print(f"   [dim]{escape(visible(scores))}[/dim]")


def _lines(sample: Mapping[str, Any]) -> list[str]:
    """What was asked and answered; of a conversation every turn."""
    if sample.get("messages"):
        return lines_of_talk(sample["messages"], sample.get("earned"))
    return [sample["asked"], "---", sample["text"]]


def _failures(counts: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts["kinds"].items())
    return f"{counts['failed']} ({kinds})" if kinds else "0"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """One line of Markdown that is shown as it is."""
    text = " ".join(visible(text).split())
    for mark in "\\|<*_`":
        text = text.replace(mark, f"\\{mark}")
    return text


def _block(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{visible(text)}\n{fence}"
