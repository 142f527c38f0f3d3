"""The run folder: named by the choices, never overwritten by accident, resumable.

runs/<task>/<credit>[,<changes>]/seed<k>/
    config.yaml     the composed configuration
    metrics.jsonl   one object per optimiser step, TRL's names
    checkpoints/    what resume=true continues from
    model/          the final model, in Hugging Face layout
    base/           the model that an adapter belongs to, where that stands nowhere else
    curves.png      pictures
    summary.json    written last: the run is finished
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainers.command.world_size import is_main_process
from trainers.seam.checkpoints import last_complete_checkpoint, refuse_unresumable

# Overrides that say where and how to run, not what: they do not name the run.
_UNNAMED = {"task", "credit", "seed", "run_dir", "runs", "resume", "overwrite", "processes", "build_only", "show"}


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def is_finished(self) -> bool:
        return self.summary.exists()

    @property
    def is_started(self) -> bool:
        return self.metrics.exists() or any(self.checkpoints.glob("checkpoint-*"))

    def check(self, config: DictConfig) -> None:
        """Raises ValueError when going on would touch results that are already there, or mix two runs."""
        resume, overwrite = config.resume, config.overwrite
        if resume and overwrite:
            raise ValueError("resume=true and overwrite=true contradict each other; give one.")
        check_place(self.path)
        if overwrite:
            if self.path.exists() and any(self.path.iterdir()) and not (self.config.exists() or self.is_started):
                raise ValueError(f"{self.path} holds something that is not a run; overwrite=true will not delete it.")
            return
        if self.is_finished and not resume:
            raise ValueError(
                f"{self.path} holds a finished run. overwrite=true replaces it, run_dir=... names another folder."
            )
        if self.is_started and not resume:
            raise ValueError(
                f"{self.path} holds an unfinished run. resume=true continues it, overwrite=true starts it again."
            )
        text = OmegaConf.to_yaml(_lasting(config))
        if (
            (self.is_started or self.is_finished)
            and self.config.exists()
            and self.config.read_text(encoding="utf-8") != text
        ):
            raise ValueError(
                f"{self.path} was started with other settings (see its config.yaml); resume needs the same. "
                "Repeat them, or name another run_dir=..."
            )
        if not self.is_finished:
            refuse_unresumable(self.checkpoints, end=max(0, config.trainer.max_steps))

    def nothing_left(self, config: DictConfig) -> bool:
        """Whether resume=true finds the run finished: a requeued job must not fail. Call `check` first."""
        return bool(config.resume) and self.is_finished

    @contextmanager
    def as_it_was_if_refused(self, acts: bool) -> Iterator[None]:
        """For all that comes before the first step: an exception takes away a folder that was not there, and brings back
        the run that overwrite=true was about to replace. acts: this process is the main one."""
        was_there = self.path.exists()
        if acts:
            shutil.rmtree(self._replaced, ignore_errors=True)
        try:
            yield
        except BaseException:
            if acts and (self._replaced.exists() or not was_there):
                shutil.rmtree(self.path, ignore_errors=True)
            if acts and self._replaced.exists():
                self._replaced.rename(self.path)
            raise
        if acts:
            shutil.rmtree(self._replaced, ignore_errors=True)

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f".{self.path.name}.replaced")

    def start(self, config: DictConfig, overwrite: bool) -> Path | None:
        """Makes the folder (main process only). Returns the checkpoint to resume from, None to start at step 0.

        Metrics of steps after that checkpoint are dropped: they will be written again.
        """
        if overwrite and self.path.exists():
            try:
                self.path.rename(self._replaced)
            except OSError:  # a mount, or no right to write beside it
                shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        checkpoint = last_complete_checkpoint(self.checkpoints, end=max(0, config.trainer.max_steps))
        write_text(self.config, OmegaConf.to_yaml(_lasting(config)))
        step = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
        if self.metrics.exists():
            kept = [row for row in read_metrics(self.metrics) if row["step"] <= step] if checkpoint else []
            write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        return checkpoint


def check_place(path: Path) -> None:
    """Whether a folder can be made and written at `path`.

    Raises:
        ValueError: a file stands in the way, or no permission.
    """
    nearest = path.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ValueError(f"{path}: {nearest} is no folder; name another run_dir=... or runs=...")
    inside = [nearest] if nearest != path.absolute() else [nearest, *(p for p in nearest.iterdir() if p.is_dir())]
    for folder in inside:
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            remedy = "name another run_dir=... or runs=..., or mend that"
            raise ValueError(f"{folder} cannot be written ({error.strerror}); {remedy}.") from None


def run_folder(config: DictConfig, choices: dict[str, str], overrides: tuple[str, ...]) -> RunFolder:
    """`run_dir` if given, else the folder the choices name."""
    if config.run_dir:
        return RunFolder(Path(config.run_dir).expanduser())
    changes = sorted(_change(o) for o in overrides if o.lstrip("+~").split("=")[0] not in _UNNAMED)
    label = ",".join([choices["credit"], *changes])
    if len(label) > 100:
        label = f"{label[:90]}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return RunFolder(Path(config.runs).expanduser() / choices["task"] / label / f"seed{config.seed}")


def say_finished(folder: RunFolder) -> None:
    """What resume=true answers on a finished run."""
    if is_main_process():
        print(f"{folder.path} is finished: resume=true has nothing left to do (overwrite=true starts it again).")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; a last line cut off by a kill is left out. None where nothing was ever logged."""
    rows = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def before_and_after(rows: list[dict[str, Any]], key: str, last: int) -> tuple[float | None, float | None]:
    """The first evaluation, and the one of the finished model, which has made `last` steps; None for what failed."""
    evals = [row for row in rows if row.get(key) is not None]
    after = [row[key] for row in evals if row["step"] == last]
    return evals[0][key] if evals and evals[0]["step"] < last else None, after[-1] if after else None


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, also if the machine dies."""
    half = path.with_name(f".{path.name}.half")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a name may outlive its contents
    os.replace(half, path)


def _change(override: str) -> str:
    key, _, value = override.lstrip("+~").partition("=")
    short = re.sub(r"^(credit|trainer|model|task)[./]", "", key)
    return re.sub(r"[^\w.=+\-]+", "_", f"{short}={value}").strip("_")


def _lasting(config: DictConfig) -> DictConfig:
    """The settings that a resumed run must share."""
    plain = OmegaConf.to_container(config, resolve=True)
    for key in ("resume", "overwrite", "processes", "build_only", "show", "run_dir", "runs"):
        plain.pop(key, None)
    return OmegaConf.create(plain)
