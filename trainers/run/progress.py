"""What a person sees while a run goes on, and the metrics file behind it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from trainers.run.files import read_metrics
from userio.terminal import log_line

LINES_WITHOUT_TERMINAL = 20


# What a strategy that samples beyond TRL's batch appends to `trainer._metrics["train"]` for each generation batch: the
# tokens of its rollouts on all ranks. They are spent like any others, so they count in the budget.
EXTRA_TOKENS = "extra_tokens"


class MetricsFile(TrainerCallback):
    """Appends one JSON object a log, with TRL's names plus `step`; NaN and inf become null. Main process only.

    Adds `generated_tokens` to rows of online training: all tokens sampled so far on all ranks, completions that TRL masks
    as truncated and `EXTRA_TOKENS` included, prompts not. From TRL's mean length, a float32: exact up to 8 million
    tokens a generation batch. Trackers get it, too, once `put_first` was called.
    """

    def __init__(self, path: Path):
        self._path = path
        self._generated, self._counted = 0, 0  # tokens so far, and the step up to which they are counted

    def on_train_begin(self, args, state, control, **kwargs):
        rows = [row for row in read_metrics(self._path) if row.get("generated_tokens")]  # of a run that is resumed
        last = max(rows, key=lambda row: row["step"], default={"step": 0, "generated_tokens": 0})
        # Where a row stands for several steps, those since the last row are counted with the next.
        self._generated, self._counted = last["generated_tokens"], last["step"]

    def put_first(self, trainer: Any) -> None:
        """Before the trackers, who read what it adds."""
        handler = trainer.callback_handler
        handler.callbacks.remove(self)
        handler.callbacks.insert(0, self)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        if "completions/mean_length" in logs:
            batches = generation_batches(args, self._counted, state.global_step)
            per_batch = logs["completions/mean_length"] * args.generation_batch_size + logs.get(EXTRA_TOKENS, 0.0)
            self._generated, self._counted = self._generated + round(batches * per_batch), state.global_step
            logs["generated_tokens"] = self._generated  # the trackers, who come later, read the same dict
        row = {"step": state.global_step, **{key: _finite(value) for key, value in logs.items()}}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for key in [key for key, value in logs.items() if value is None]:
            del logs[key]  # trackers complain of a number that is none


class Progress(TrainerCallback):
    """A bar with reward, the reward functions and length; without a terminal, a line now and then."""

    def __init__(self, reward_names: list[str]):
        self._names = reward_names
        self._bar: tqdm | None = None
        self._line_every = 1

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        self._line_every = max(1, state.max_steps // LINES_WITHOUT_TERMINAL)
        if sys.stderr.isatty():
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or (shown := self._shown(logs)) is None:
            return
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
            self._bar.set_postfix_str(shown)
            log_line(f"step {state.global_step:>4}/{state.max_steps}  {shown}")
        elif state.global_step % self._line_every == 0 or state.global_step in (1, state.max_steps):
            print(f"step {state.global_step:>4}/{state.max_steps}  {shown}", flush=True)

    def on_train_end(self, args, state, control, **kwargs):
        if self._bar is not None:
            self._bar.close()

    def _shown(self, logs: dict[str, Any]) -> str | None:
        """The words for what was logged; None: no training step."""
        return headline(logs, self._names) if "reward" in logs else None


class LossProgress(Progress):
    """As `Progress`, with the loss."""

    def __init__(self):
        super().__init__([])

    def _shown(self, logs):
        if "loss" not in logs:
            return None
        shown = f"loss {logs['loss']:.4f}"
        if "mean_token_accuracy" in logs:
            shown += f"  accuracy {logs['mean_token_accuracy']:.3f}"
        if "lhts/kl" in logs:
            shown += f"  KL {logs['lhts/kl']:.4f}  log p {logs['lhts/log_p']:.2f}  clamped {logs['lhts/clamped']:.3f}"
        return shown


def generation_batches(args: Any, after: int, until: int) -> int:
    """How many generation batches TRL samples in the optimiser steps after + 1 to `until`: one batch feeds
    steps_per_generation / gradient_accumulation_steps of them, `num_iterations` times."""
    lasts = max(1, args.steps_per_generation // args.gradient_accumulation_steps) * args.num_iterations
    return sum((step - 1) % lasts == 0 for step in range(after + 1, until + 1))


def headline(logs: dict[str, Any], reward_names: list[str]) -> str:
    """`reward 0.62  format 0.90  answer 0.55  length 31  KL 0.0123`"""
    values = {"reward": logs.get("reward")}
    if len(reward_names) > 1:
        values |= {name: logs.get(f"rewards/{name}/mean") for name in reward_names}
    words = [f"{name} {value:.3f}" for name, value in values.items() if isinstance(value, (int, float))]
    for name, key, digits in (("length", "completions/mean_length", 1), ("KL", "kl", 4)):
        if isinstance(logs.get(key), (int, float)):
            words.append(f"{name} {logs[key]:.{digits}f}")
    return "  ".join(words)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (int, float, str, bool, type(None), list, dict)) else str(value)
