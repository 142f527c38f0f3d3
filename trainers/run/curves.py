"""curves.png: what happened in a run, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INK, GRID = "#222222", "#dddddd"
# Okabe-Ito: told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw_curves(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Reward, its parts, lengths, entropy and, where there is one, the KL to the reference against optimiser steps; faint raw
    values, a running mean on top."""
    train = [row for row in rows if "reward" in row]
    evals = [row for row in rows if "eval_reward" in row]
    parts = sorted({key for row in train for key in row if key.startswith("rewards/") and key.endswith("/mean")})
    has_kl = any(row.get("kl") is not None for row in train)
    figure, axes = _page(columns=3 if has_kl else 2)
    _panel(axes[0, 0], train, {"reward (sampled)": "reward"}, "Reward")
    if evals:
        axes[0, 0].plot(
            [row["step"] for row in evals],
            [row["eval_reward"] for row in evals],
            "D",
            color=COLOURS[1],
            markersize=7,
            label="held-out prompts",
        )
        axes[0, 0].legend(frameon=False, loc="lower right")
    _panel(axes[0, 1], train, {key.split("/")[1]: key for key in parts}, "Reward functions")
    _panel(
        axes[1, 0],
        train,
        {"mean": "completions/mean_length", "longest": "completions/max_length"},
        "Completion length (tokens)",
    )
    _panel(axes[1, 1], train, {"entropy": "entropy"}, "Policy entropy (nats per token)")
    if has_kl:
        _panel(axes[0, 2], train, {"KL": "kl"}, "KL to the reference (nats per token)")
        _panel(axes[1, 2], train, {"norm": "grad_norm"}, "Gradient norm")
    _save(figure, axes, title, path)


def draw_loss_curves(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Loss, entropy, accuracy or KL, and the lengths that the weight prefers, against optimiser steps."""
    train = [row for row in rows if "loss" in row]
    evals = [row for row in rows if "eval_loss" in row]
    is_lhts = any("lhts/kl" in row for row in train)
    figure, axes = _page()
    _panel(axes[0, 0], train, {"training": "loss"}, "Loss (weighted, nats)")
    if evals:
        steps, values = [row["step"] for row in evals], [row["eval_loss"] for row in evals]
        axes[0, 0].plot(steps, values, "D", color=COLOURS[1], label="held-out, token mean")
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
    _save(figure, axes, title, path)


def _page(columns: int = 2) -> tuple[Any, Any]:
    """A figure and its axes, in two rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt.subplots(2, columns, figsize=(5.5 * columns, 7), layout="constrained")


def _save(figure, axes, title: str, path: Path) -> None:
    from matplotlib import pyplot as plt

    for axis in axes[1]:
        axis.set_xlabel("optimiser step")
    figure.suptitle(title, fontsize=13, color=INK)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def running_mean(values: list[float], window: int) -> list[float]:
    """Mean of each value and up to `window` - 1 before it."""
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1])
        for i in range(len(values))
    ]


def _panel(axis, rows: list[dict], series: dict[str, str], title: str) -> None:
    for colour, (label, key) in zip(COLOURS, series.items(), strict=False):
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color=colour, alpha=0.3, linewidth=1)
        axis.plot(steps, running_mean(list(values), max(1, len(values) // 12)), color=colour, linewidth=2, label=label)
    axis.set_title(title, loc="left", fontsize=11, color=INK)
    axis.grid(color=GRID, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(series) > 1 and axis.lines:
        axis.legend(frameon=False, loc="best")
