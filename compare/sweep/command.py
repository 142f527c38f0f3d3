"""The command line of a sweep: what is swept, what is fixed, what runs the cells; then the run, and the report about it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hydra
import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from compare.sweep.axes import axes_of, read_arms
from compare.sweep.cells import Axis, Cell, plan_cells, sweep_name
from compare.sweep.check import check_cells
from compare.sweep.display import display, duration
from compare.sweep.engine import Status, run_cells, run_one
from compare.sweep.estimate import estimate
from compare.sweep.facts import facts_of_machine
from compare.sweep.folder import SweepFolder, read_json
from compare.sweep.launch import REFUSED, Launch
from configs.command_line.overrides import parse_overrides, with_paths
from configs.compose import CONFIG_DIR
from configs.fields.defaults import defaults_in, fields_of_command, wrong_types
from configs.fields.help import help_of_choices, lines_of
from configs.fields.listing import settings_of_command
from userio.commands import as_installed, this_command
from userio.terminal import steady_output
from userio.tracebacks import tell
from userio.visible import visible

_SAFE_PATH = "PYTHONSAFEPATH"


@dataclass(frozen=True)
class Sweep:
    """A parsed command line."""

    settings: DictConfig
    axes: tuple[Axis, ...]
    launch: Launch
    launcher: tuple[str, ...]  # overrides for Hydra's launcher, for clusters; empty: run here
    arms: Mapping[str, tuple[Axis, ...]] = field(
        default_factory=dict
    )  # name -> what it has of its own; empty: none named

    @property
    def folder(self) -> SweepFolder:
        name = self.settings.name or sweep_name(self.axes, self.launch.script, self.arms)
        return SweepFolder(Path(self.settings.sweep_dir or Path("sweeps") / name).expanduser())

    @property
    def fixed(self) -> list[str]:
        return [axis.texts[0] for axis in self.axes if not axis.is_swept]


def parse(arguments: Sequence[str], config_dirs: Sequence[str] = ()) -> Sweep:
    """Sorts a command line into the sweep's own settings, what is swept or fixed, and a cluster launcher.

    Raises:
        ValueError: broken grammar, unknown settings, choices that do not exist.
    """
    settings = OmegaConf.create(defaults_in(fields_of_command("sweep")))
    OmegaConf.set_struct(settings, True)
    swept, launcher = [], []
    for override in parse_overrides(with_paths(arguments)):
        key = override.get_key_element()
        first = key.lstrip("+~").replace("/", ".").split(".")[0]
        if first == "hydra":
            launcher.append(override.input_line or "")
        elif first in settings:
            _set(settings, override, key)
        elif first in REFUSED:
            raise ValueError(f"{override.input_line}: {REFUSED[first]}.")
        else:
            swept.append(override)
    if launcher and not any(line.lstrip("+").startswith("hydra/launcher") for line in launcher):
        raise ValueError(
            f"{launcher[0]}: does nothing without hydra/launcher=...; sweep_dir=... names the sweep's folder."
        )
    for complaint in wrong_types(settings, "sweep"):
        raise ValueError(f"{complaint}.")
    script = _script(settings.launch.script)
    axes = axes_of(swept, config_dirs, script)
    arms = read_arms(Path(settings.arms).expanduser(), config_dirs, script) if settings.arms else {}
    launch = Launch(
        program=tuple(map(str, settings.launch.program)),
        script=script,
        config=_from_anywhere(settings.launch.config),
        args=tuple(map(str, settings.launch.args)),
        devices=None if settings.launch.devices is None else tuple(map(str, settings.launch.devices)),
        config_dirs=tuple(str(Path(folder).resolve()) for folder in config_dirs),
    )
    launch.check(settings.jobs)
    return Sweep(settings, axes, launch, tuple(launcher), arms)


def _set(settings: DictConfig, override: Override, key: str) -> None:
    if override.is_sweep_override() or override.is_delete() or key.startswith(("+", "~")):
        raise ValueError(f"{override.input_line}: a setting of the sweep itself takes one value.")
    try:
        OmegaConf.update(settings, key, override.value(), merge=True)
    except (OmegaConfBaseException, TypeError):
        parent = OmegaConf.select(settings, key.rpartition(".")[0]) if "." in key else settings
        known = ", ".join(map(str, parent)) if isinstance(parent, DictConfig) else "none"
        raise ValueError(f"`{key}` is no setting of the sweep; there is {known}.") from None


def _said_of(words: Sequence[str]) -> str:
    """What training says to options that nobody has."""
    done = subprocess.run([sys.executable, "-m", "apportion.train_grpo", *words], capture_output=True, text=True)
    return done.stderr[done.stderr.find("train_grpo.py: ") :].removeprefix("train_grpo.py: ").strip()


def _script(given: str | None) -> str:
    """What a cell runs: a file of the user's, or ours, wherever the sweep is started. Installed, ours stand in apportion/."""
    if given and Path(given).is_file():
        return given
    name, root = given or "train_grpo.py", CONFIG_DIR.parent
    if root == Path.cwd():
        return name
    return str(next((file for file in (root / name, root / "apportion" / name) if file.is_file()), name))


def _from_anywhere(file: str | None) -> str | None:
    """`configs/accelerate/cpu.yaml` is found from wherever the sweep is started."""
    if file and not Path(file).is_file() and (CONFIG_DIR.parent / file).is_file():
        return str(CONFIG_DIR.parent / file)
    return file


def defaults_of(script: str) -> dict[str, str]:
    """The choices a training command makes when it names none, from its YAML."""
    return _choices_in(CONFIG_DIR / f"{Path(script).stem}.yaml")


def cells_of(sweep: Sweep) -> tuple[Cell, ...]:
    """The cells of a parsed command. Experiments choose tasks and strategies, which name cells like those given."""
    names = next((axis.values for axis in sweep.axes if axis.key == "experiment"), ())
    folders = (CONFIG_DIR, *map(Path, sweep.launch.config_dirs))
    files = {name: folder / "experiment" / f"{name}.yaml" for name in names for folder in reversed(folders)}
    experiments = {name: _choices_in(file) for name, file in files.items()}
    return plan_cells(sweep.axes, defaults_of(sweep.launch.script), experiments, sweep.arms)


def _choices_in(path: Path) -> dict[str, str]:
    """group -> choice of a YAML's defaults list, `override /task: doors` included."""
    entries = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", []) if path.is_file() else []
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {str(key).split()[-1].lstrip("/"): str(value) for key, value in pairs}


def run(sweep: Sweep, console: Console) -> int:
    """Checks, runs what is not finished, reports. Returns the exit code."""
    folder, settings = sweep.folder, sweep.settings
    cells = cells_of(sweep)
    with folder.held():
        if settings.overwrite:
            folder.clear()
        command = f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
        cells = folder.prepare(cells, sweep.fixed, {"command": command, **facts_of_machine()})
        todo = [cell for cell in cells if not folder.is_finished(cell)]
        console.print(
            f"{folder.path}: {len(cells)} cells, {len(cells) - len(todo)} finished before, jobs={settings.jobs}",
            soft_wrap=True,
        )
        if todo and settings.check:
            check_cells(folder, todo, sweep.launch, settings.jobs, console.print)
        began = time.monotonic()
        if sweep.launcher:
            status = run_elsewhere(sweep, folder, cells, todo)
        else:
            with display(console) as watch:
                keep = (settings.keep_checkpoints, settings.keep_models)
                status = run_cells(folder, cells, sweep.launch, settings.jobs, *keep, watch=watch)
        wall = time.monotonic() - began
        if todo:
            worked = sum(folder.state(cell).get("seconds", 0.0) for cell in todo)
            how = " ".join(sweep.launcher) or f"jobs={settings.jobs}"
            text = f"{duration(wall)} for {len(todo)} cells whose own times add up to {duration(worked)}, {how}"
            folder.note(**{"wall clock": text})
            console.print(text)
        failed = [cell for cell in cells if status.state[cell.id] == "failed"]
        for cell in failed:
            console.print(
                f"\n{cell.id} failed (exit code {folder.state(cell).get('returncode')}), {folder.log(cell)} ends:",
                markup=False,
                soft_wrap=True,
            )
            error = "\n".join(folder.state(cell)["error"].splitlines()[-8:])
            console.print(visible(error), markup=False, highlight=False, soft_wrap=True)
        if failed:
            cells_again = "the failed cell" if len(failed) == 1 else f"the {len(failed)} failed cells"
            console.print(f"\nThe same command tries {cells_again} again.")
        reported = report(sweep, folder) if settings.report else 0
    return 1 if failed else reported


def report(sweep: Sweep, folder: SweepFolder) -> int:
    """`apportion report`, in a process of its own; by its file, so that no folder of the user's comes before ours."""
    said = {key: value for key, value in (sweep.settings.report or {}).items() if value is not None}
    lists = {key: ",".join(map(str, value)) for key, value in said.items() if OmegaConf.is_list(value)}
    options = [f"{key}={value}" for key, value in {**said, **lists}.items()]
    command = [
        sys.executable,
        str(CONFIG_DIR.parent / "apportion" / "report.py"),
        str(folder.path.absolute()),
        *options,
        f"out={folder.path.absolute() / 'report'}",
    ]
    return subprocess.run(command, env=_with_checkout_on_path()).returncode


def _with_checkout_on_path() -> dict[str, str]:
    """A checkout need not be installed; what is installed needs no help, and site-packages should not come first."""
    root = CONFIG_DIR.parent
    if not (root / "pyproject.toml").is_file():
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}


def run_elsewhere(sweep: Sweep, folder: SweepFolder, cells: Sequence[Cell], todo: Sequence[Cell]) -> Status:
    """Hands the cells to a Hydra launcher (submitit for SLURM, joblib, ...), which decides where and when each runs."""
    folder.note(launch=sweep.launch.as_json(), keep=[sweep.settings.keep_checkpoints, sweep.settings.keep_models])
    index = [str(i) for i, cell in enumerate(_manifest_cells(folder)) if cell in todo]
    if index:
        root = str(folder.path.absolute())
        sys.argv = [sys.argv[0], "--multirun", *sweep.launcher, f"+cell={','.join(index)}", f"+folder='{root}'"]
        sys.argv += [f"hydra.sweep.dir='{root}/hydra'", "hydra.sweep.subdir=${hydra.job.num}"]
        # Launchers start `python -m` of their own where we stand; no file there is to come before us (Python 3.11 and later).
        os.environ.update(_with_checkout_on_path() | {_SAFE_PATH: "1"})
        cell_job()  # pyright: ignore[reportCallIssue]  (Hydra hands over the configuration)
    status = Status(tuple(cells), sweep.settings.jobs)
    for cell in cells:
        status.state[cell.id] = folder.state(cell).get("state", "pending")
    return status


@hydra.main(version_base="1.3", config_path=None)
def cell_job(config: DictConfig) -> None:
    """One cell, wherever Hydra's launcher put it."""
    os.environ.pop(_SAFE_PATH, None)  # the cell's script finds what stands beside it
    folder = SweepFolder(Path(config.folder))
    manifest = read_json(folder.manifest)
    launch = Launch.of_json(manifest["launch"])
    run_one(folder, _manifest_cells(folder)[config.cell], launch, *manifest["keep"])


def _manifest_cells(folder: SweepFolder) -> list[Cell]:
    return [Cell.of_json(cell) for cell in read_json(folder.manifest)["cells"]]


def dry_run(sweep: Sweep, console: Console) -> int:
    """Lists the cells and what they will cost, and starts nothing but the composition of one configuration."""
    folder = sweep.folder
    cells = cells_of(sweep)
    width = max(len(cell.id) for cell in cells)
    for cell in cells:
        state = "finished" if folder.is_finished(cell) else folder.state(cell).get("state", "new")
        console.print(f"{cell.id:<{width}}  {state}", markup=False, highlight=False, soft_wrap=True)
    todo = [cell for cell in cells if not folder.is_finished(cell)]
    command = in_shell(sweep.launch.command(cells[0].overrides, folder.run_dir(cells[0])))
    console.print(f"\nEach cell: {command}\n", markup=False, highlight=False, soft_wrap=True)
    for line in estimate(folder, cells, todo, sweep.launch, sweep.settings.jobs):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def in_shell(command: Sequence[str]) -> str:
    """A command line to copy: double quotes where Hydra's single ones are inside."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\\\') else shlex.quote(word) for word in command
    )


def help_text() -> str:
    lines = [
        "python sweep.py credit=a,b seed=0,1,2: many runs, paired by seed, and one report about them", "",
        "  python sweep.py credit=uniform,seq_norm,dr_grpo seed=0,1,2 task=chain jobs=2 [key=value ...]",
        "  python sweep.py credit='glob(*)' seed='range(0,5)'      globs over a config group, ranges",
        "  python sweep.py credit=a,b 'trainer.learning_rate=log(1e-5,1e-3,5)'     five rates at equal ratios, for each",
        "  python sweep.py credit=a,b 'trainer.learning_rate={a:1e-4,b:[1e-4,3e-4]}'    rates of their own",
        "  python sweep.py ... --dry-run                           list the cells and an estimate",
        "  python sweep.py ... hydra/launcher=submitit_slurm       each cell a SLURM job (pip install hydra-submit"
        "it-launcher)", "",
        "The same command resumes a sweep. Every other key=value goes to the training command of each cell.",
        "docs/compare/sweeps.md has more. Settings of the sweep itself:", "",
        *lines_of(settings_of_command("sweep")), "",
        "  --config-dir DIR     a folder of your own YAMLs, laid out like configs/",
        "  --help GROUP=CHOICE  the settings of one choice of the training command, as in --help task=jsonl",
    ]  # fmt: skip
    return as_installed("\n".join(lines))


def main() -> int:
    """The exit code: 2 for a refusal, 1 where a cell failed."""
    steady_output()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is treated as Ctrl-C
    parser = argparse.ArgumentParser("sweep.py", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--multirun", "-m", action="store_true", help="accepted and needless: a sweep always sweeps")
    given, strange = parser.parse_known_intermixed_args()
    console = Console(highlight=False)
    try:
        if given.help or not given.overrides:
            asked = help_of_choices("train_grpo", given.overrides, given.config_dir) if given.help else ""
            print(asked or help_text())
            return 0
        if strange:
            raise ValueError(_said_of(sys.argv[1:]))
        sweep = parse(given.overrides, given.config_dir)
        return dry_run(sweep, console) if given.dry_run else run(sweep, console)
    except ValueError as error:
        return tell("sweep.py", error)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kept = "finished cells are kept, and the same command goes on from here"
        print(f"\nsweep.py: stopped; {kept}: {this_command(without=('overwrite',))}", file=sys.stderr, flush=True)
        return 130
