"""How a cell is started: its command line, its cores, its GPUs, its port."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from configs.command_line.overrides import quoted
from userio.words import word_of

REFUSED = {
    "run_dir": "the sweep names every run folder; choose sweep_dir=...",
    "runs": "the sweep names every run folder; choose sweep_dir=...",
    "resume": "the sweep resumes unfinished cells by itself",
    "build_only": "the sweep builds the shared start by itself",
}


@dataclass(frozen=True)
class Launch:
    """Launch options of every cell; see configs/fields/commands.py."""

    program: tuple[str, ...] = ("accelerate", "launch")
    script: str = "train_grpo.py"
    config: str | None = None
    args: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = None
    config_dirs: tuple[str, ...] = field(default=())

    def check(self, jobs: int) -> None:
        """Raises ValueError: files that are not there, or GPUs that cannot be dealt out evenly."""
        if not Path(self.script).is_file():
            raise ValueError(f"launch.script={self.script}: no such file here, and none of ours.")
        if self.config and not Path(self.config).is_file():
            raise ValueError(f"launch.config={self.config}: no such file. There is configs/accelerate/.")
        if jobs < 1:
            raise ValueError(f"jobs={jobs} must be at least 1.")
        if self.devices is not None and (len(self.devices) < jobs or len(self.devices) % jobs):
            raise ValueError(f"{len(self.devices)} GPUs cannot be dealt out evenly to jobs={jobs}; choose a divisor.")

    def as_json(self) -> dict[str, Any]:
        """For a process on another machine: paths are absolute."""
        config = None if self.config is None else str(Path(self.config).absolute())
        return {**asdict(self), "script": str(Path(self.script).absolute()), "config": config}

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> Launch:
        fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return Launch(**fields)

    @property
    def processes(self) -> int:
        """Ranks of one cell, as far as the launch options say."""
        for i, argument in enumerate(self.args):
            if argument.startswith("--num_processes"):
                value = word_of(argument).text or (self.args[i + 1] if i + 1 < len(self.args) else "1")
                return int(value)
        if self.config:
            return int((yaml.safe_load(Path(self.config).read_text(encoding="utf-8")) or {}).get("num_processes", 1))
        return 1

    @property
    def uses_accelerate(self) -> bool:
        return self.program[:2] == ("accelerate", "launch")

    def command(self, overrides: Sequence[str], run_dir: Path) -> list[str]:
        """The whole command of a cell; resume=true starts it if there is nothing to resume."""
        options: list[str] = []
        if self.uses_accelerate:
            if self.config:
                options += ["--config_file", self.config]
            if self.processes > 1 and "--main_process_port" not in " ".join(self.args):
                options += ["--main_process_port", str(free_port())]  # cells side by side must not share one
        return [
            *self._program(),
            *options,
            *self.args,
            self.script,
            *self._overrides(overrides, run_dir),
            "resume=true",
        ]

    def build_command(self, overrides: Sequence[str], run_dir: Path) -> list[str]:
        """Builds and caches the shared start, in one plain process."""
        return [sys.executable, self.script, *self._overrides(overrides, run_dir), "build_only=true"]

    def compose_command(self, overrides: Sequence[str], run_dir: Path) -> list[str]:
        """Prints the composed configuration, or dies of what is wrong with it."""
        return [sys.executable, self.script, *self._overrides(overrides, run_dir), "--cfg", "job"]

    def _program(self) -> list[str]:
        if self.uses_accelerate:  # the accelerate of this very interpreter
            return [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *self.program[2:]]
        return [sys.executable, *self.program[1:]] if self.program[0] == "python" else list(self.program)

    def _overrides(self, overrides: Sequence[str], run_dir: Path) -> list[str]:
        folders = [part for folder in self.config_dirs for part in ("--config-dir", folder)]
        return [*overrides, f"run_dir={quoted(str(run_dir))}", *folders]

    def environment(self, slot: int, jobs: int, cores: Sequence[int]) -> dict[str, str]:
        """Threads to the cores of the slot, GPUs to its share. What the user has set stays."""
        threads = str(max(1, len(cores) // self.processes))
        environment = {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1", **os.environ}
        if self.devices is not None:
            share = len(self.devices) // jobs
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices[slot * share : (slot + 1) * share])
        return environment


def cores_of_slot(slot: int, jobs: int, cores: Sequence[int] | None = None) -> list[int]:
    """Share number `slot` of the cores we may use, as even as possible; with more jobs than cores, one core in turn."""
    if cores is None:
        cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
    if jobs > len(cores):
        return [cores[slot % len(cores)]]
    return list(cores[slot * len(cores) // jobs : (slot + 1) * len(cores) // jobs])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
