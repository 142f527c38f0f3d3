"""Commands named in messages, as whoever reads them can give them: installed, there are no scripts and no configs/ to point at."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from userio.words import word_of

_HOME = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (_HOME / "train_grpo.py").is_file()
_SCRIPT = r"(train_grpo|train_sft|train_lhts|sample|eval_model|sweep)\.py\b"


def as_installed(text: str) -> str:
    """The text as it is in a checkout; else `python sweep.py` is `apportion sweep`, `accelerate launch train_grpo.py` takes
    the module, and files of configs/ are where `apportion configs` says."""
    if IN_CHECKOUT:
        return text
    text = re.sub(rf"\bpython {_SCRIPT}", r"apportion \1", text)
    text = re.sub(rf"((?:accelerate launch|torchrun)\b[^`\n]*? ){_SCRIPT}", r"\1-m apportion.\2", text)
    return re.sub(r"(?<![\w/])configs/accelerate\b", '"$(apportion configs)"/accelerate', text)


def asks_for_help(arguments: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(arguments)


def out_folders(command: str, arguments: Sequence[str]) -> list[Path]:
    """The folders of `out=FOLDER`, all that a command takes that only prints and writes.

    Raises:
        SystemExit: another word.
    """
    if unknown := [word for word in arguments if not word.startswith("out=")]:
        raise SystemExit(f"{command}: {unknown[0]}: give out=FOLDER, or nothing.")
    return [Path(word.removeprefix("out=")).expanduser() for word in arguments]


def this_command(more: Sequence[str] = (), without: Sequence[str] = ()) -> str:
    """The command that was given to a shell, to give it again: with the launcher that started us, if one did.

    more: words to add; without: settings to leave out.
    """
    ours = sys.orig_argv
    words = _launcher(sys.argv[1:]) or ([] if sys.argv[0].startswith("apportion ") else ours)
    if not words:  # the verb that `apportion` took from its words
        words = [*sys.argv[0].split(), *sys.argv[1:]]
    if re.fullmatch(r"python[\d.]*", Path(words[0]).name):
        words = ["python", *words[1:]]
        if len(words) > 1 and Path(words[1]).name in ("accelerate", "torchrun", "apportion"):
            words = [Path(words[1]).name, *words[2:]]
    return shlex.join([*(word for word in words if word_of(word).name not in without), *more])


def _launcher(arguments: Sequence[str]) -> list[str]:
    """The words of the process above us, if it launched us with our arguments."""
    import psutil

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:
        return []
    is_launcher = {"launch", "torch.distributed.run"} & set(words) or any(w.endswith("torchrun") for w in words)
    return words if is_launcher and words[len(words) - len(arguments) :] == list(arguments) else []
