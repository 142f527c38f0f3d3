"""The end of a run on the terminal: a table of before and after, and some completions."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainers.evaluation.page import interval_text
from trainers.run.generations import Probe
from userio.visible import visible

EDGE = 10


def print_samples(console: Console, trainer, reward_names: list[str], show: int) -> None:
    """Up to `show` completions of the last batch."""
    for line in sample_lines(trainer, reward_names, show):
        console.print(line)


def results_table(rows: list[dict], summary: dict[str, Any], reward_names: list[str]) -> Table:
    """First and last steps side by side; held-out prompts where they were evaluated."""
    train = [row for row in rows if row.get("reward") is not None]
    table = Table(
        title=f"credit={summary['credit']}  task={summary['task']}  seed={summary['seed']}", title_justify="left"
    )
    for name, justify in (
        ("", "left"),
        ("first step", "right"),
        (f"mean of last {min(EDGE, len(train)) or EDGE}", "right"),
    ):
        table.add_column(name, justify=justify)
    keys = {"reward": "reward", **{name: f"rewards/{name}/mean" for name in reward_names}}
    keys |= {"length (tokens)": "completions/mean_length", "entropy (nats)": "entropy"}
    if any(row.get("kl") is not None for row in train):
        keys["KL to the reference (nats)"] = "kl"
    for label, key in keys.items():
        table.add_row(label, _number(_mean(train[:1], key)), _number(_mean(train[-EDGE:], key)))
    held_out = summary["eval_reward_before"], summary["eval_reward_after"]
    if evaluation := summary.get("evaluation"):
        table.add_section()
        table.add_row("held-out prompts", "before", "after")
        for name in evaluation["after"]:
            both = (evaluation[when].get(name) for when in ("before", "after"))
            table.add_row(name, *(interval_text(one, name) for one in both))
        table.add_row("gain of reward", "", interval_text(evaluation["gain"]["reward"], "reward", sign=True))
    elif held_out != (None, None):
        table.add_section()
        table.add_row("held-out reward", *map(_number, held_out))
    table.add_section()
    table.add_row("tokens", "", f"{summary['tokens']:,}")
    table.add_row("seconds per step", "", _number(summary["seconds_per_step"]))
    table.add_row("training seconds", "", f"{summary['seconds']:.1f}")
    return table


def print_written(console: Console, after: Probe | None, show: int) -> None:
    """Up to `show` of what the model writes now."""
    for prompt, text in (after.texts if after else [])[:show]:
        console.print(f"\n[bold]{escape(visible(prompt))}[/bold]\n  {escape(visible(text))}")


def learnt_table(summary: dict[str, Any], rows: list[dict]) -> Table:
    """Losses, and what the model writes, before and after. rows: of metrics.jsonl."""
    title = f"{summary['credit']}  task={summary['task']}  seed={summary['seed']}"
    table = Table(title=title, title_justify="left")
    for name, justify in (("", "left"), ("before", "right"), ("after", "right")):
        table.add_column(name, justify=justify)
    table.add_row("loss", _number(summary["initial_loss"]), _number(summary["final_loss"]))
    if summary["eval_loss_after"] is not None:
        table.add_row("held-out loss", _number(summary["eval_loss_before"]), _number(summary["eval_loss_after"]))
    if kl := [row["lhts/kl"] for row in rows if row.get("lhts/kl") is not None]:
        last = kl[-EDGE:]
        table.add_row("KL to the frozen model", _number(kl[0]), _number(sum(last) / len(last)))
    if summary["written"]:
        table.add_section()
        before = summary["written_before"] or {}
        for key, label in (
            ("mean_length", "length written"),
            ("repetition", "repeated pairs"),
            ("mean_log_p", "log p of a text"),
            ("distinct", "distinct texts"),
        ):
            table.add_row(label, _number(before.get(key)), _number(summary["written"][key]))
        table.add_row("length of the data", "", _number(summary["data_mean_length"]))
    table.add_section()
    table.add_row("seconds per step", "", _number(summary["seconds_per_step"]))
    table.add_row("training seconds", "", f"{summary['seconds']:.1f}")
    return table


def sample_lines(trainer, reward_names: list[str], show: int) -> list[str]:
    """Up to `show` completions of the last batch TRL logged, with their rewards; model text is escaped."""
    logs = getattr(trainer, "_logs", {})
    prompts, completions = list(logs.get("prompt", ())), list(logs.get("completion", ()))
    lines = []
    for i in range(min(show, len(completions))):
        row = i * max(1, len(completions) // max(1, show))
        scores = ", ".join(f"{name} {_number(_at(logs['rewards'].get(name), row))}" for name in reward_names)
        lines += [
            "",
            f"[bold]{escape(visible(_text(prompts[row])))}[/bold]",
            f"  {escape(visible(_text(completions[row])))}",
            f"  [dim]{escape(visible(scores))}[/dim]",
        ]
    return lines


def _text(value) -> str:
    return value if isinstance(value, str) else " | ".join(str(message.get("content", "")) for message in value)


def _at(values, row: int):
    values = list(values or ())
    return values[row] if row < len(values) else None


def _mean(rows: list[dict], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else None


def _number(value) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"
