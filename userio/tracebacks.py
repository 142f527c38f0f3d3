"""Whose error is it, and what does its reader need to see?

A refusal of ours is a sentence with the remedy, and a traceback would bury it. An error in a user's own code needs his
frames, whatever its class; an error of our own code needs all of them.
"""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary

from userio.commands import as_installed

LOG = "_apportion_log"  # attribute of an exception: the file that holds its whole traceback
SHOWN = 4  # frames of the user's, counted from the error
_RAISE = dis.opmap["RAISE_VARARGS"]  # the instruction of a `raise` statement
_HOUSE = Path(__file__).resolve().parent.parent
_ROOMS = ("userio", "credit", "rewards", "tasks", "sampling", "configs", "trainers", "lab", "compare", "apportion")
_COMMANDS = ("train_grpo.py", "train_sft.py", "train_lhts.py", "sample.py", "eval_model.py", "sweep.py")
_INTERPRETER = tuple({os.path.realpath(sysconfig.get_path(key)) + os.sep for key in ("stdlib", "platstdlib")})


def is_refusal(error: BaseException, libraries: bool = True) -> bool:
    """Whether the message alone is enough: a ValueError that our code raised on purpose, and no user's code took part.

    libraries: one that a library raised on purpose counts too (TRL on options that do not fit together).
    """
    last = error.__traceback__
    if not isinstance(error, ValueError) or last is None or frames_of_user(error):
        return False
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    on_purpose = code.co_code[last.tb_lasti] == _RAISE
    return on_purpose and (_is_ours(code.co_filename) or (libraries and type(error) is ValueError))


def frames_of_user(error: BaseException) -> list[FrameSummary]:
    """Frames in files that are neither ours nor of a library, outermost first; of what caused the error if there are
    none in its own traceback."""
    for one in _chain(error):
        if found := [frame for frame in traceback.extract_tb(one.__traceback__) if _is_users(frame.filename)]:
            return found
    return []


def explain(error: BaseException, log: Path | None = None) -> str:
    """What to print: the message of a refusal; else the error with the user's frames; else, or where there is no log
    with the whole traceback, the whole of it.

    log: the file that holds the whole traceback already.
    """
    if is_refusal(error, libraries=log is None):
        return as_installed(str(error))
    ours = isinstance(error, ValueError) and _is_ours(traceback.extract_tb(error.__traceback__)[-1].filename)
    headline = str(error) if ours else _headline(error)
    whole = f"The whole traceback: {log}"
    if frames := frames_of_user(error):
        shown = "".join(traceback.format_list(frames[-SHOWN:])).rstrip()
        short = f"{headline}\n{shown}"
        if log is not None:
            return f"{short}\n{whole}"
        return short if ours else f"{headline}\n{_whole(error)}"
    return f"{headline}\n{_whole(error)}" + (f"\n{whole}" if log is not None else "")


def tell(command: str, error: BaseException) -> int:
    """Prints `explain(error)` on standard error; returns the exit code, 2 for a refusal, else 1."""
    print(f"{command}: {explain(error)}", file=sys.stderr, flush=True)
    return 2 if is_refusal(error) else 1


def write_log(folder: Path, error: BaseException, where: str, rank: int = 0) -> Path | None:
    """Appends the whole traceback to error.log in the folder (error.rank1.log, ...); None where that cannot be done."""
    path = folder / ("error.log" if rank == 0 else f"error.rank{rank}.log")
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"{stamp}  {where}\n$ {' '.join(sys.argv)}\n{_whole(error)}\n\n")
    except OSError:
        return None
    return path


def _whole(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def _headline(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).rstrip()


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _is_ours(file: str) -> bool:
    path = Path(os.path.realpath(file))
    if not path.is_relative_to(_HOUSE):
        return False
    inside = path.relative_to(_HOUSE).parts
    return inside[0] in (_ROOMS if len(inside) > 1 else _COMMANDS)


def _is_users(file: str) -> bool:
    if file.startswith("<") or _is_ours(file):  # <frozen importlib._bootstrap>
        return False
    path = os.path.realpath(file)
    return not ({"site-packages", "dist-packages"} & set(Path(path).parts) or path.startswith(_INTERPRETER))
