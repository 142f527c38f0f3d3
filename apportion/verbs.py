"""The commands, from anywhere: `apportion train_grpo ...`, `python -m apportion.train_grpo ...`, and, in a checkout,
`python train_grpo.py ...` are one and the same.

What a command imports is imported after `make_way`, so that no file of the user's stands in its way.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name

from apportion.packages import HOME, NEEDS, make_way


@dataclass(frozen=True)
class Verb:
    """What a command does, and what is called for it: "module:function" with `arguments`, or a module that is run as
    `python -m` runs it."""

    meaning: str
    target: str
    arguments: tuple[str, ...] = ()


VERBS = {
    "train_grpo": Verb(
        "align a policy",
        "trainers.command.cli:run_verb",
        ("train_grpo", "trainers.run.grpo:run_grpo", "trainers.run.grpo:register_schema"),
    ),
    "train_sft": Verb(
        "learn from texts",
        "trainers.command.cli:run_verb",
        ("train_sft", "trainers.run.likelihood:run_sft", "trainers.run.likelihood:register_schema"),
    ),
    "train_lhts": Verb(
        "fine-tune towards a sequence temperature",
        "trainers.command.cli:run_verb",
        ("train_lhts", "trainers.run.likelihood:run_lhts", "trainers.run.likelihood:register_schema"),
    ),
    "sample": Verb("write texts", "trainers.command.cli:run_verb", ("sample", "trainers.run.sample:run_sample")),
    "eval_model": Verb(
        "measure models on held-out prompts",
        "trainers.command.cli:run_verb",
        ("eval_model", "trainers.run.eval_model:run_eval_model"),
    ),
    "audit": Verb(
        "measure noise and bias of strategies on your model and task",
        "trainers.command.cli:run_verb",
        ("audit", "lab.audit.command:run_audit", "trainers.run.grpo:register_schema"),
    ),
    "launch": Verb("accelerate launch, with the run's own exit status", "trainers.command.launch:main"),
    "sweep": Verb("train many times and compare", "compare.sweep.command:main"),
    "report": Verb("compare finished runs", "compare.report"),
    "view": Verb("show each token of a run, coloured by its credit", "compare.view"),
    "score": Verb("try rewards on texts, without training", "rewards.score"),
    "bench": Verb("measure strategies against the exact gradient", "lab.bench"),
    "card": Verb("write a page about a strategy", "lab.card"),
}


def run(name: str) -> None:
    """Runs a command, or a module of ours, on the command line of this process, as its last deed: it ends by returning or by
    SystemExit."""
    _begin()
    verb = VERBS.get(name) or Verb("", name)
    if ":" in verb.target:
        if code := resolve_name(verb.target)(*verb.arguments):
            raise SystemExit(code)
    else:
        runpy.run_module(verb.target, run_name="__main__", alter_sys=True)


def run_command(name: str, overrides: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> None:
    """Runs `train_grpo`, `train_sft`, `train_lhts`, `sample`, `eval_model` or `audit` in this process, as the command line does,
    with its overrides:
    `run_command("train_grpo", ["credit=seq_norm", "run_dir=runs/mine"])`.

    Args:
        config_dirs: folders of your own YAMLs, as `--config-dir`.

    Raises:
        ValueError: what the command line refuses, with the remedy, before a model is loaded or a folder made.
    """
    known = [verb for verb in VERBS if VERBS[verb].arguments]
    if name not in known:
        raise ValueError(f"{name!r} is no command to run in a process of yours; there are {', '.join(known)}.")
    from trainers.command.cli import compose_command

    _, run, *register = VERBS[name].arguments
    for function in register:
        resolve_name(function)()
    resolve_name(run)(compose_command(name, overrides, config_dirs))


def main() -> None:
    """`apportion COMMAND ...`. Exit code 2 where there is no such command."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in VERBS or _is_module(name):
        sys.argv = [f"apportion {name}", *rest]
        return run(name)
    _begin()
    if name in ("-h", "--help"):
        print(help_text())
    elif name == "--version":
        print(_version())
    elif name == "configs":
        print(HOME / "configs")
    else:
        print(f"apportion: there is no command {name!r}.\n\n{help_text()}", file=sys.stderr)
        raise SystemExit(2)


def _is_module(name: str) -> bool:
    """Whether it is the name of a module of ours, which stands where the name says."""
    file = HOME.joinpath(*name.split("."))
    is_there = file.with_suffix(".py").is_file() or (file / "__main__.py").is_file()
    return "." in name and name.split(".")[0] in NEEDS and is_there


def _begin() -> None:
    try:
        said = make_way()
    except ImportError as error:
        raise SystemExit(f"apportion: {error}") from None
    from userio.terminal import steady_output

    steady_output()
    if said and os.environ.get("RANK", "0") == "0":
        print(f"apportion: {said}", file=sys.stderr, flush=True)


def help_text() -> str:
    lines = ["apportion COMMAND [key=value ...]      (apportion COMMAND --help says what each takes)", ""]
    lines += [f"  {name:<12}{verb.meaning}" for name, verb in VERBS.items()]
    lines += [f"  {'configs':<12}print the folder of the YAMLs"]
    lines += [f"  {'lab.temperature':<16} and the like: what `python -m lab.temperature` runs", ""]
    lines += ["On several processes: accelerate launch -m apportion.train_grpo credit=seq_norm"]
    return "\n".join(lines)


def _version() -> str:
    try:
        return version("apportion")
    except PackageNotFoundError:
        return f"not installed; run from {HOME}"
