"""What trackers (`trainer.report_to`) hear besides TRL's numbers: which run this is, and how it ended.

The trackers themselves are transformers' callbacks. Known by name here are wandb, trackio, TensorBoard and MLflow; others get
the run's name and all metrics. Nothing of it can end a run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

PROJECT = "apportion"
_LONGEST_PARAMETER = 500  # characters, of MLflow


class Trackers(TrainerCallback):
    """Tells each tracker of a trainer what it is tracking.

        trackers = Trackers(facts)
        trackers.attach(trainer, folder)
        ...
        trackers.finish(summary, ["", "before", "after"], rows)      # before the trackers are told of the end

    Args:
        facts: of the run (trainers/run/tell/facts.py).
    """

    def __init__(self, facts: Mapping[str, Any]):
        self._facts = dict(facts)
        self._told: list[_Told] = []

    def attach(self, trainer: Any, folder: Path) -> None:
        """Call it once the trainer is made. TensorBoard's files go to <folder>/tensorboard unless the user said where."""
        for callback in trainer.callback_handler.callbacks:
            kind = _KINDS.get(type(callback).__name__)
            if kind is not None:
                self._told.append(kind(callback))
            if kind is _TensorBoard and not callback.logging_dir:
                callback.logging_dir = str(folder / "tensorboard")
        if self._told:
            trainer.add_callback(self)  # after the trackers, which begin before it

    def on_train_begin(self, args, state, control, **kwargs):
        for told in self._told if state.is_world_process_zero else ():
            with _harmless(told):
                told.begin(self._facts)

    def finish(self, summary: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The numbers of summary.json as `final/<name>`, and the table that the terminal shows. Main process only."""
        numbers = {f"final/{name}": value for name, value in numbers_in(summary).items()}
        for told in self._told:
            with _harmless(told):
                told.end(numbers, [name or "quantity" for name in columns], [list(map(str, row)) for row in rows])


def name_project(args: Any) -> None:
    """Where the user has named no project, trackers put the runs into `apportion`."""
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if getattr(args, "project", None) == "huggingface":  # transformers' default
        args.project = PROJECT


def numbers_in(value: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The numbers of a nested mapping, by their path: `written/mean_length`; a seed is none."""
    found: dict[str, float] = {}
    for key, one in value.items():
        if isinstance(one, Mapping):
            found |= numbers_in(one, f"{before}{key}/")
        elif isinstance(one, (int, float)) and not isinstance(one, bool) and key != "seed":
            found[f"{before}{key}"] = one
    return found


class _Told:
    def __init__(self, callback: Any):
        self.callback = callback

    def begin(self, facts: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def end(self, numbers: Mapping[str, float], columns: list[str], rows: list[list[str]]) -> None:
        raise NotImplementedError


class _Wandb(_Told):
    def begin(self, facts):
        run = self.callback._wandb.run
        run.config.update({"apportion": dict(facts)}, allow_val_change=True)
        run.tags = (*(run.tags or ()), *(tag[:64] for tag in (facts["strategy"], facts["task"])))

    def end(self, numbers, columns, rows):
        wandb = self.callback._wandb
        wandb.run.log({"final/table": wandb.Table(columns=columns, data=rows)})
        wandb.run.summary.update(dict(numbers))


class _Trackio(_Told):
    def begin(self, facts):
        self.callback._trackio.config.update({"apportion": dict(facts)}, allow_val_change=True)

    def end(self, numbers, columns, rows):
        import pandas

        trackio = self.callback._trackio
        trackio.log({**numbers, "final/table": trackio.Table(dataframe=pandas.DataFrame(rows, columns=columns))})


class _TensorBoard(_Told):
    def begin(self, facts):
        writer = self.callback.tb_writer
        writer.add_text("apportion", _code(facts))
        writer.add_text("apportion/strategy", f"{facts['strategy']}: {json.dumps(facts['members'])}")
        writer.flush()

    def end(self, numbers, columns, rows):
        writer, lines = self.callback.tb_writer, [columns, ["---"] * len(columns), *rows]
        writer.add_text("final/table", "\n".join(f"| {' | '.join(line)} |" for line in lines))
        for name, value in numbers.items():
            writer.add_scalar(name, value)
        writer.flush()


class _MLflow(_Told):
    def begin(self, facts):
        mlflow = self.callback._ml_flow
        flat = {key: str(value) for key, value in _flat(facts, "apportion.").items()}
        items = [(key, value) for key, value in flat.items() if len(value) <= _LONGEST_PARAMETER]
        for start in range(0, len(items), 100):  # as many as it takes at once
            mlflow.log_params(dict(items[start : start + 100]))
        mlflow.set_tags({f"apportion.{key}": str(facts[key]) for key in ("strategy", "task", "commit")})
        mlflow.log_dict(dict(facts), "apportion.json")

    def end(self, numbers, columns, rows):
        mlflow = self.callback._ml_flow
        mlflow.log_metrics(dict(numbers))
        mlflow.log_table({name: [row[i] for row in rows] for i, name in enumerate(columns)}, "final_table.json")


_KINDS = {
    "WandbCallback": _Wandb,
    "TrackioCallback": _Trackio,
    "TensorBoardCallback": _TensorBoard,
    "MLflowCallback": _MLflow,
}


@contextmanager
def _harmless(told: _Told):
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        print(
            f"\n{type(told.callback).__name__} was not told which run it tracks: {reason}", file=sys.stderr, flush=True
        )


def _code(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(facts, indent=2, default=str).split("\n"))


def _flat(value: Mapping[str, Any], before: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{before}{key}.") if isinstance(one, Mapping) else {f"{before}{key}": one}
    return found
