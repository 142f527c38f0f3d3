"""Printing that never ends a command.

A pipe whose reader has gone (`| head`), a terminal that was closed, a full disk behind `> log.txt`, an encoding that
lacks a character of a completion (`PYTHONIOENCODING=ascii`): none of them is worth a run, and none a traceback after
`--help`. It stands here because every command may import `rewards`, which imports nothing.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress


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
    raw = _Lenient(stream.fileno(), "w", closefd=False)
    with suppress(OSError):
        stream.flush()
    lines = stream.line_buffering or stream.write_through  # `python -u`: no later than the end of a line
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=lines)


class _Lenient(io.FileIO):
    """A file that takes everything, whether or not it arrives."""

    def write(self, data) -> int:
        try:
            while (count := super().write(data)) is None:  # somebody made the pipe non-blocking, and it is full
                select.select([], [self], [])
            return count
        except OSError:
            return memoryview(data).nbytes
