"""What a person sees while a run goes on, and the metrics file behind it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

LINES_WITHOUT_TERMINAL = 20


class MetricsFile(TrainerCallback):
    """Appends one JSON object a log, with TRL's names plus `step`; NaN and inf become null. Main process only."""

    def __init__(self, path: Path):
        self._path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        row = {"step": state.global_step, **{key: _finite(value) for key, value in logs.items()}}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


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
        if not state.is_world_process_zero or not logs or "reward" not in logs:
            return
        shown = headline(logs, self._names)
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
            self._bar.set_postfix_str(shown)
        elif state.global_step % self._line_every == 0 or state.global_step in (1, state.max_steps):
            print(f"step {state.global_step:>4}/{state.max_steps}  {shown}", flush=True)

    def on_train_end(self, args, state, control, **kwargs):
        if self._bar is not None:
            self._bar.close()


def headline(logs: dict[str, Any], reward_names: list[str]) -> str:
    """`reward 0.62  format 0.90  answer 0.55  length 31`"""
    values = {"reward": logs.get("reward")}
    if len(reward_names) > 1:
        values |= {name: logs.get(f"rewards/{name}/mean") for name in reward_names}
    words = [f"{name} {value:.3f}" for name, value in values.items() if isinstance(value, (int, float))]
    length = logs.get("completions/mean_length")
    return "  ".join(words + ([f"length {length:.1f}"] if isinstance(length, (int, float)) else []))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (int, float, str, bool, type(None), list, dict)) else str(value)
