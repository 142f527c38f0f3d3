"""What every command shares: its arguments, `--help`, and errors that a person can act on.

python <verb>.py [key=value ...] [--config-dir DIR] [--cfg job] [--dry-run] [--help]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from configs.command_line.habits import Vocabulary, bare, dashed
from configs.command_line.unread import complaints
from configs.compose import CONFIG_DIR, ConfigError, compose_layers, config_of_choices
from configs.fields.declared import fields_of
from configs.fields.defaults import script_of
from configs.fields.help import has_dry_run, help_of
from trainers.command.audit.words import words_apart
from trainers.command.behind.named import runs_named, trained_for_another
from trainers.command.behind.words import words_of_runs
from trainers.command.fields import checked_fields
from trainers.command.world_size import check_launch, check_sharding, is_main_process, world_size
from userio.commands import as_installed, this_command
from userio.terminal import steady_output
from userio.tracebacks import LOG, explain, frames_of_user, is_refusal

WAIT_FOR_MAIN = 5.0  # seconds
EXAMPLES = {
    "train_grpo": "accelerate launch train_grpo.py credit=seq_norm",
    "train_sft": "accelerate launch train_sft.py weight=seq_mean",
    "loop": "python -m trainers.loop credit=spans",
    "train_lhts": "accelerate launch train_lhts.py tau=0.7 horizon=8",
    "sample": "python sample.py sampler=smc tau=0.7",
    "score": 'python -m rewards.score reward.funcs=[my_rewards.py:polite] --completion "please"',
    "eval_model": "python eval_model.py model=hf model.name=path/or/hub-id task=jsonl task.path=my.jsonl n=8",
    "audit": "python -m lab.audit run=runs/chain/dr_grpo/seed0 credit=dr_grpo,seq_norm,spans",
}
_TRAINER_OF = {"audit": "train_grpo"}  # what is said of TRL's fields under another command


@dataclass(frozen=True)
class Command:
    """A composed command line."""

    config: DictConfig
    choices: dict[str, str]
    overrides: tuple[str, ...]
    said: tuple[str, ...] = ()  # what the user should know about his settings, one sentence each
    config_dirs: tuple[str, ...] = ()
    apart: tuple[
        str, ...
    ] = ()  # words that are read later: of an audit, of runs (trainers/command/{audit,behind}/words.py)
    dry_run: bool = False  # says what it would do, and stops


def run_verb(name: str, run: str, register: str | None = None) -> None:
    """Parses the command line of the verb `name` (configs/<name>.yaml), checks the launch and calls `run(command)`.

    `run` and `register` (called first; makes schemas known) are "module:function", imported when needed: `--help` and a
    wrong launch answer at once. A refusal ends the process with its message and exit code 2; any other exception with the
    user's frames, or the whole traceback, and exit code 1 (userio/tracebacks.py).
    """
    steady_output()
    script = script_of(name)
    parser = argparse.ArgumentParser(script, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--cfg", "-c", choices=["job"], default=None)
    parser.add_argument("--multirun", "-m", action="store_true")
    if has_dry_run(name):
        parser.add_argument("--dry-run", action="store_true")
    given, strange = parser.parse_known_intermixed_args()
    try:
        if given.multirun:
            raise ConfigError(
                "-m would sweep inside every rank of the launch. Sweep from outside: "
                f"`python sweep.py {' '.join(given.overrides)}`"
            )
        if given.help:
            print(help_text(name, given.config_dir, given.overrides))
            return
        if register:
            resolve_name(register)()
        if strange:
            raise ConfigError(dashed(sys.argv[1:], strange, vocabulary(name, given.config_dir)))
        dry_run = getattr(given, "dry_run", False)
        command = compose_command(name, given.overrides, given.config_dir, is_elsewhere=dry_run)
        if given.cfg:
            print(OmegaConf.to_yaml(command.config))
            return
        command = replace(command, dry_run=dry_run)
        if command.dry_run:
            check_launch()
        else:
            check_launch(command.config.get("processes"))
            check_sharding(command.config.get("launched_by"))
        for sentence in command.said if is_main_process() else ():
            print(f"{script}: {as_installed(sentence)}", file=sys.stderr, flush=True)
        if status := resolve_name(run)(command):
            raise SystemExit(status)
    except SystemExit as error:
        if not frames_of_user(error):
            raise
        raise SystemExit(_report(script, error)) from None  # exit() in a user's code is no end of a run
    except Exception as error:
        raise SystemExit(_report(script, error)) from None
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough, and a launcher hands it on once more
        if is_main_process():
            print(f"\n{script}: {_stopped(name, stop)}", file=sys.stderr, flush=True)
        raise SystemExit(130) from None


def _stopped(name: str, stop: KeyboardInterrupt) -> str:
    """A sentence, and the command that goes on. What the exception holds: where the run stood (trainers/run/ending.py)."""
    if name == "audit":
        return f"stopped; the same command goes on where this one was: {this_command()}"
    if not name.startswith("train"):
        return f"stopped; again from the start: {this_command()}"
    where = str(stop) or "before its first step; it starts with"
    return f"stopped {where}: {this_command(['resume=true'], without=('resume', 'overwrite'))}"


def _report(script: str, error: Exception | SystemExit) -> int:
    """Prints what this process has to say of its error, once; returns the exit code."""
    log = getattr(error, LOG, None)
    if world_size() > 1 and isinstance(error, RuntimeError) and "by peer" in str(error):
        first = f"another process ended first ({str(error).splitlines()[0]})"
        print(f"\n[rank {os.environ.get('RANK', 0)}] {script}: {first}", file=sys.stderr, flush=True)
        return 1
    refused = is_refusal(error, libraries=log is None)
    if refused and not is_main_process():
        time.sleep(WAIT_FOR_MAIN)  # all processes refuse the same; if the first has, its launcher ends us meanwhile
    who = f"[rank {os.environ.get('RANK', 0)}] " if world_size() > 1 and not (refused and is_main_process()) else ""
    print(f"\n{who}{script}: {explain(error, log)}", file=sys.stderr, flush=True)
    return 2 if refused else 1


def compose_command(
    name: str, overrides: Sequence[str], config_dirs: Sequence[str] = (), is_elsewhere: bool = False
) -> Command:
    """Composes and resolves the whole configuration of a verb. is_elsewhere: the run may be on another machine.

    Raises:
        ConfigError: as `compose_config`; also for a comma list, which only the sweep takes, and for what nobody reads.
    """
    given = overrides
    overrides, apart = words_apart(overrides) if name == "audit" else words_of_runs(name, overrides)
    try:
        config, choices, layers = compose_layers(name, overrides, config_dirs)
        if apart and name != "audit" and not runs_named(config):
            overrides, apart = given, ()
            config, choices, layers = compose_layers(name, overrides, config_dirs)
    except ConfigError as error:
        raise (ConfigError(said) if (said := bare(overrides, vocabulary(name, config_dirs))) else error) from None
    said: list[str] = []
    try:
        for complaint in complaints(name, config, _groups_of(name), layers):
            raise ConfigError(complaint)
        if "trainer" in choices:
            said = checked_fields(_TRAINER_OF.get(name, name), config, layers, is_elsewhere)
    except InterpolationResolutionError as error:
        raise ConfigError(f"{error}".splitlines()[0]) from None
    said = [*said, *trained_for_another(name, config, choices, given)]
    missing = [str(key) for key in OmegaConf.missing_keys(config)]
    if missing:
        raise ConfigError(f"`{missing[0]}` must be given: {missing[0]}=...")
    return Command(config, choices, tuple(given), tuple(said), tuple(map(str, config_dirs)), tuple(apart))


def help_text(name: str, config_dirs: Sequence[str] = (), words: Sequence[str] = ()) -> str:
    """Every choice with its meaning, every setting with its default and its sentence; of `words`, as task=jsonl, that one alone."""
    return as_installed(help_of(name, EXAMPLES[name], words, config_dirs))


def vocabulary(name: str, config_dirs: Sequence[str] = ()) -> Vocabulary:
    """What a command knows, for words that it does not."""
    folders = [CONFIG_DIR, *(Path(folder).expanduser() for folder in config_dirs)]
    config = config_of_choices(name)
    return Vocabulary(
        own=[*map(str, config), *_groups_of(name)],
        trainer=[str(key) for key in config.get("trainer") or ()],
        model=[field.name for field in fields_of("trainers.model.pretrained.hf") or ()] if "model" in config else (),
        task=[field.name for field in fields_of("tasks.hub.hub") or ()] if "task" in config else (),
        has_choice=lambda group, choice: any((folder / group / f"{choice}.yaml").is_file() for folder in folders),
    )


def _groups_of(name: str) -> set[str]:
    defaults = OmegaConf.load(CONFIG_DIR / f"{name}.yaml").get("defaults", [])
    keys = [str(next(iter(entry))) for entry in defaults if isinstance(entry, DictConfig)]
    return {key.split()[-1].split("/")[0].split("@")[0] for key in keys}
