"""What a person sees of likelihood training: a line now and then, curves.png, and a table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainers.run.curves import INK, _panel
from trainers.run.generations import Probe
from trainers.run.progress import Progress
from userio.visible import visible

EDGE = 10


class LossProgress(Progress):
    """As `Progress`, with the loss."""

    def __init__(self):
        super().__init__([])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        shown = f"loss {logs['loss']:.4f}"
        if "mean_token_accuracy" in logs:
            shown += f"  accuracy {logs['mean_token_accuracy']:.3f}"
        if "lhts/kl" in logs:
            shown += f"  KL {logs['lhts/kl']:.4f}  log p {logs['lhts/log_p']:.2f}  clamped {logs['lhts/clamped']:.3f}"
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
            self._bar.set_postfix_str(shown)
        elif state.global_step % self._line_every == 0 or state.global_step in (1, state.max_steps):
            print(f"step {state.global_step:>4}/{state.max_steps}  {shown}", flush=True)


def draw_loss_curves(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Loss, entropy, accuracy or KL, and the lengths that the weight prefers, against optimiser steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    train = [row for row in rows if "loss" in row]
    evals = [row for row in rows if "eval_loss" in row]
    is_lhts = any("lhts/kl" in row for row in train)
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    _panel(axes[0, 0], train, {"training": "loss"}, "Loss (weighted, nats)")
    if evals:
        steps, values = [row["step"] for row in evals], [row["eval_loss"] for row in evals]
        axes[0, 0].plot(steps, values, "D", color="#D55E00", label="held-out, token mean")
        axes[0, 0].legend(frameon=False)
    if is_lhts:
        _panel(axes[0, 1], train, {"KL": "lhts/kl"}, "KL to the frozen model (nats per token)")
        _panel(axes[1, 0], train, {"clamped": "lhts/clamped", "effective": "lhts/ess"}, "Share of tokens")
        _panel(axes[1, 1], train, {"log p": "lhts/log_p"}, "log p of the texts, frozen model (nats)")
    else:
        _panel(axes[0, 1], train, {"accuracy": "mean_token_accuracy"}, "Token accuracy")
        _panel(axes[1, 0], train, {"entropy": "entropy"}, "Entropy (nats per token)")
        lengths = {"texts": "weight/mean_length", "weighted": "weight/weighted_mean_length"}
        _panel(axes[1, 1], train, lengths, "Mean length (tokens)")
    for axis in axes[1]:
        axis.set_xlabel("optimiser step")
    figure.suptitle(title, fontsize=13, color=INK)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def print_learnt(rows: list[dict], summary: dict[str, Any], after: Probe | None, show: int) -> None:
    console = Console(highlight=False)
    console.print(learnt_table(summary))
    for prompt, text in (after.texts if after else [])[:show]:
        console.print(f"\n[bold]{escape(visible(prompt))}[/bold]\n  {escape(visible(text))}")


def learnt_table(summary: dict[str, Any]) -> Table:
    title = f"{summary['credit']}  task={summary['task']}  seed={summary['seed']}"
    table = Table(title=title, title_justify="left")
    for name, justify in (("", "left"), ("before", "right"), ("after", "right")):
        table.add_column(name, justify=justify)
    table.add_row("loss", _number(summary["initial_loss"]), _number(summary["final_loss"]))
    if summary["eval_loss_after"] is not None:
        table.add_row("held-out loss", _number(summary["eval_loss_before"]), _number(summary["eval_loss_after"]))
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


def _number(value) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"
