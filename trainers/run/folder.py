"""The run folder: named by the choices, never overwritten by accident, resumable.

runs/<task>/<credit>[--<changes>]/seed<k>/
    config.yaml     the composed configuration
    started.jsonl   command, commit and versions of each start
    log.txt         what the main process has said
    metrics.jsonl   one object per optimiser step, TRL's names
    evaluations.jsonl  one object per evaluation, with intervals
    checkpoints/    what resume=true continues from
    model/          the final model, in Hugging Face layout
    base/           the model that an adapter belongs to, where that stands nowhere else
    curves.png      pictures
    summary.json    written last: the run is finished
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from omegaconf import DictConfig, OmegaConf

from trainers.command.world_size import is_main_process
from trainers.run import files
from trainers.run.going_on import (
    LENGTH,
    changed_settings,
    changes_in_words,
    is_longer_only,
    samples_anew_after,
    why_not_longer,
)
from trainers.run.tell.outputs import is_about_output, without_secrets
from trainers.seam.checkpoints import last_complete_checkpoint, last_step, refuse_unresumable
from userio.folder_names import folder_name
from userio.words import word_of


@dataclass(frozen=True)
class RunFolder:
    path: Path
    name: str = ""  # what the run is called: <task>/<credit>[--<changes>]/seed<k>, wherever it stands

    @property
    def config(self) -> Path:
        return self.path / files.CONFIG

    @property
    def metrics(self) -> Path:
        return self.path / files.METRICS

    @property
    def evaluations(self) -> Path:
        return self.path / files.EVALUATIONS

    @property
    def summary(self) -> Path:
        return self.path / files.SUMMARY

    @property
    def checkpoints(self) -> Path:
        return self.path / files.CHECKPOINTS

    @property
    def model(self) -> Path:
        return self.path / files.MODEL

    @property
    def curves(self) -> Path:
        return self.path / files.CURVES

    @property
    def records(self) -> Path:
        return self.path / files.RECORDS

    @property
    def written(self) -> Path:
        return self.path / files.WRITTEN

    @property
    def log(self) -> Path:
        return self.path / files.OUTPUT

    @property
    def started(self) -> Path:
        return self.path / files.STARTED

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
                f"{self.path} holds a finished run. overwrite=true replaces it, run_dir=... names another folder, and "
                f"run_dir={self.path} resume=true with a larger trainer.max_steps goes on from its end."
            )
        if self.is_started and not resume:
            raise ValueError(
                f"{self.path} holds an unfinished run. resume=true continues it, overwrite=true starts it again."
            )
        changed = self._changed(config)
        if is_longer_only(changed):
            self._check_longer(config, changed)
        elif changed:
            raise ValueError(
                f"{self.path} was started with other settings: {changes_in_words(changed)}. resume=true needs the same. Repeat "
                "them, or name another run_dir=..."
            )
        if not self.is_finished or changed:
            refuse_unresumable(self.checkpoints, end=self._passed_over(config))

    def _changed(self, config: DictConfig) -> dict[str, tuple[Any, Any]]:
        """What a run that stands here was started with, and is asked for now."""
        if not ((self.is_started or self.is_finished) and self.config.exists()):
            return {}
        texts = self.config.read_text(encoding="utf-8"), OmegaConf.to_yaml(_lasting(config))
        before, now = (OmegaConf.to_container(OmegaConf.create(text)) for text in texts)
        return changed_settings(before, now)  # type: ignore[arg-type]

    def _check_longer(self, config: DictConfig, changed: dict[str, tuple[Any, Any]]) -> None:
        """Raises ValueError: another length would not be exact."""
        trainer: Any = OmegaConf.to_container(config.trainer)
        found = [int(path.name.rsplit("-", 1)[1]) for path in self.checkpoints.glob("checkpoint-*")]
        reason = why_not_longer(trainer, changed, max(found, default=0))
        if reason is None and self.is_finished and not found:
            reason = "its checkpoints are gone (a sweep deletes them without keep_checkpoints=true)"
        if reason is not None:
            raise ValueError(
                f"{self.path} was started with {changes_in_words(changed)} and cannot go on to that length: {reason}. Repeat its "
                "length, or start another run in another run_dir=..."
            )

    def _passed_over(self, config: DictConfig) -> int:
        """From which step on a checkpoint is none to go on from; 0 where it says so itself. The last one of a run that is
        made longer is exact where rollouts begin anew after it."""
        changed = self._changed(config)
        if not is_longer_only(changed):
            return max(0, config.trainer.max_steps)
        last = last_step(self.checkpoints)
        trainer: Any = OmegaConf.to_container(config.trainer)
        return last + 1 if samples_anew_after(last, trainer) else last

    def nothing_left(self, config: DictConfig) -> bool:
        """Whether resume=true finds the run finished: a requeued job must not fail. Call `check` first."""
        return bool(config.resume) and self.is_finished and not self._changed(config)

    @contextmanager
    def as_it_was_if_refused(self, acts: bool) -> Iterator[None]:
        """For all that comes before the first step: an exception takes away a folder that was not there, and brings back
        the run that overwrite=true was about to replace, or the end of one that was to go on. acts: this process is the main
        one."""
        was_there = self.path.exists()
        before = {
            path: path.read_bytes()
            for path in (self.config, self.metrics, self.evaluations, self.summary)
            if path.is_file()
        }
        if acts:
            shutil.rmtree(self._replaced, ignore_errors=True)
        try:
            yield
        except BaseException:
            if acts and (self._replaced.exists() or not was_there):
                shutil.rmtree(self.path, ignore_errors=True)
            if acts and self._replaced.exists():
                self._replaced.rename(self.path)
            for path, content in before.items() if acts else ():
                files.write_bytes(path, content)
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
        goes_on = self.is_finished and is_longer_only(self._changed(config))
        checkpoint = last_complete_checkpoint(self.checkpoints, end=self._passed_over(config))
        if goes_on:
            self.summary.unlink()
        files.write_text(self.config, OmegaConf.to_yaml(_lasting(config)))
        step = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
        for history in (self.metrics, self.evaluations):
            if history.exists():
                kept = [row for row in files.read_metrics(history) if row["step"] <= step] if checkpoint else []
                if (
                    goes_on
                    and kept
                    and (history == self.evaluations or any(key.startswith("eval_") for key in kept[-1]))
                ):
                    del kept[-1]  # of the end, which is none any more
                files.write_rows(history, kept)
        return checkpoint


def check_place(path: Path, settings: str = "run_dir=... or runs=...") -> None:
    """Whether a folder can be made and written at `path`. settings: those that name it.

    Raises:
        ValueError: a file stands in the way, or no permission.
    """
    nearest = path.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ValueError(f"{path}: {nearest} is no folder; name another {settings}")
    inside = [nearest] if nearest != path.absolute() else [nearest, *(p for p in nearest.iterdir() if p.is_dir())]
    for folder in inside:
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            remedy = f"name another {settings}, or mend that"
            raise ValueError(f"{folder} cannot be written ({error.strerror}); {remedy}.") from None


def start_folder(folder: RunFolder, config: DictConfig, state: PartialState) -> str | None:
    """`RunFolder.start` by the main process; every rank learns which checkpoint to resume from."""
    found = [None]
    if state.is_main_process:
        checkpoint = folder.start(config, config.overwrite)
        found = [str(checkpoint) if checkpoint else None]
    if state.num_processes > 1:
        broadcast_object_list(found, from_process=0)
    return found[0]


def open_folder(
    config: DictConfig, choices: dict[str, str], overrides: tuple[str, ...], unnamed: Collection[str] = ()
) -> RunFolder | None:
    """The folder of `run_folder`, found free or resumable; None where resume=true finds a finished run, which is said.

    Raises:
        ValueError: going on would touch results that are already there, or mix two runs.
    """
    folder = run_folder(config, choices, overrides, unnamed)
    folder.check(config)
    if not folder.nothing_left(config):
        _say_where_it_may_go_on(folder, config, choices, overrides, unnamed)
        return folder
    if is_main_process():
        print(f"{folder.path} is finished: resume=true has nothing left to do (overwrite=true starts it again).")
    return None


def _say_where_it_may_go_on(
    folder: RunFolder, config: DictConfig, choices: dict[str, str], overrides: tuple[str, ...], unnamed: Collection[str]
) -> None:
    """A length names a folder, so that resume=true with another one looks where there is nothing."""
    plain = tuple(override for override in overrides if word_of(override).name not in LENGTH)
    other = run_folder(config, choices, plain, unnamed)
    if config.resume and not folder.is_started and other.path != folder.path and other.is_started and is_main_process():
        print(
            f"resume=true finds nothing in {folder.path}, and the run starts at step 0. {other.path} holds a run of another "
            f"length; run_dir={other.path} goes on from that one.",
            flush=True,
        )


def run_folder(
    config: DictConfig, choices: dict[str, str], overrides: tuple[str, ...], unnamed: Collection[str] = ()
) -> RunFolder:
    """`run_dir` if given, else the folder the choices name. unnamed: further keys that `choices` speak for."""
    words = [word_of(override) for override in overrides]
    spoken_for = {"task", "credit", "seed", *unnamed}
    changes = sorted((w.name, w.text) for w in words if w.name not in spoken_for and not is_about_output(w.name))
    name = Path(folder_name(choices["task"]), folder_name(choices["credit"], changes), f"seed{config.seed}")
    return RunFolder(Path(config.run_dir or Path(config.runs, name)).expanduser(), name.as_posix())


def _lasting(config: DictConfig) -> DictConfig:
    """The settings that a resumed run must share."""
    plain = OmegaConf.to_container(config, resolve=True)
    for key in ("resume", "overwrite", "processes", "launched_by", "build_only", "show", "run_dir", "runs"):
        plain.pop(key, None)
    return OmegaConf.create(without_secrets(plain))
