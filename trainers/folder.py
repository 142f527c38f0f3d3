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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainers.boundaries import last_complete_checkpoint

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
        return self.metrics.exists() or self.checkpoints.exists()

    def check(self, config: DictConfig) -> None:
        """Raises ValueError when going on would touch results that are already there, or mix two runs."""
        resume, overwrite = config.resume, config.overwrite
        if resume and overwrite:
            raise ValueError("resume=true and overwrite=true contradict each other; give one.")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; name another run_dir=...")
        if overwrite:
            if self.path.exists() and any(self.path.iterdir()) and not (self.config.exists() or self.is_started):
                raise ValueError(f"{self.path} holds something that is not a run; overwrite=true will not delete it.")
            return
        if self.is_finished:
            raise ValueError(
                f"{self.path} holds a finished run. overwrite=true replaces it, run_dir=... names another folder."
            )
        if self.is_started and not resume:
            raise ValueError(
                f"{self.path} holds an unfinished run. resume=true continues it, overwrite=true starts it again."
            )
        text = OmegaConf.to_yaml(_lasting(config))
        if self.is_started and self.config.exists() and self.config.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{self.path} was started with other settings (see its config.yaml); resume needs the same. "
                "Repeat them, or name another run_dir=..."
            )

    def start(self, config: DictConfig, overwrite: bool) -> Path | None:
        """Makes the folder (main process only). Returns the checkpoint to resume from, None to start at step 0.

        Metrics of steps after that checkpoint are dropped: they will be written again.
        """
        if overwrite and self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        checkpoint = last_complete_checkpoint(self.checkpoints, end=max(0, config.trainer.max_steps))
        write_text(self.config, OmegaConf.to_yaml(_lasting(config)))
        step = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
        if self.metrics.exists():
            kept = [row for row in read_metrics(self.metrics) if row["step"] <= step] if checkpoint else []
            write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        return checkpoint


def run_folder(config: DictConfig, choices: dict[str, str], overrides: tuple[str, ...]) -> RunFolder:
    """`run_dir` if given, else the folder the choices name."""
    if config.run_dir:
        return RunFolder(Path(config.run_dir).expanduser())
    changes = sorted(_change(o) for o in overrides if o.lstrip("+~").split("=")[0] not in _UNNAMED)
    label = ",".join([choices["credit"], *changes])
    if len(label) > 100:
        label = f"{label[:90]}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return RunFolder(Path(config.runs).expanduser() / choices["task"] / label / f"seed{config.seed}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; a last line cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


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
