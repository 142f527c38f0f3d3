"""Printing that never ends a command.

A pipe whose reader has gone (`| head`), a terminal that was closed, a full disk behind `> log.txt`, an encoding that
lacks a character of a completion (`PYTHONIOENCODING=ascii`): none of them is worth a run, and none a traceback after
`--help`. It stands here because every command may import `rewards`, which imports nothing.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import select
import sys
from contextlib import suppress
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours, movements of the cursor


def steady_output() -> None:
    """From here on nothing that is written to sys.stdout or sys.stderr raises; call it first in a command.

    What cannot be encoded is shown as an escape (`\\u2713`), what cannot be delivered is dropped. Streams that somebody
    else has put there (a test runner, a notebook) are left alone. Pictures go to files: a notebook hands the name of its
    own backend to the commands it starts, and matplotlib cannot even be imported where that is not installed.
    """
    os.environ["MPLBACKEND"] = "Agg"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before we were started: `>&-`
            nowhere = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _steady(stream))


def _steady(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _Lenient(stream.fileno(), stream.encoding)
    with suppress(OSError):
        stream.flush()
    lines = stream.line_buffering or stream.write_through  # `python -u`: no later than the end of a line
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=lines)


class _Log:
    """A file of what was said, line by line: of a progress bar its last state, and no colours."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self, path: Path) -> None:
        self._path = path

    def lines(self, text: str) -> str:
        """Writes the whole lines of a text; returns what is left of a last one."""
        if self._path is None:
            return ""
        *whole, rest = text.split("\n")
        said = [_ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in whole]
        if said:
            with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{line}\n" for line in said))
        return rest.rpartition("\r")[2]


_LOG = _Log()


def log_output(path: Path) -> None:
    """From here on, what goes to the streams of `steady_output` is also added to a file, until the process ends."""
    _LOG.open(path)


def log_line(text: str) -> None:
    """A line for that file alone: what a progress bar shows stands in no line of its own."""
    _LOG.lines(text + "\n")


class _Lenient(io.FileIO):
    """A file that takes everything, whether or not it arrives."""

    _rest = ""

    def __init__(self, number: int, encoding: str):
        super().__init__(number, "w", closefd=False)
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def write(self, data) -> int:
        try:
            while (count := super().write(data)) is None:  # somebody made the pipe non-blocking, and it is full
                select.select([], [self], [])
        except OSError:
            count = memoryview(data).nbytes
        self._rest = _LOG.lines(self._rest + self._decoder.decode(bytes(data)[:count]))
        return count
