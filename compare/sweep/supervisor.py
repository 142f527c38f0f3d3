"""Stands between the sweep and one cell: nothing of the cell outlives the sweep.

    python supervisor.py LOCK LOG -- COMMAND...        (started by compare/sweep/engine.py with a pipe as its standard input)

Holds the cell's lock, sends the command's output to the log, and returns the command's exit code. When the pipe closes,
because the sweep closed it or because it was killed in whatever way, the command and all its descendants are stopped:
SIGTERM, then SIGKILL. It lives in a session of its own, so that Ctrl-C reaches the sweep alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time

import psutil

BUSY = 75  # exit code: another process holds the lock
LOCK_SECONDS = 20.0
GRACE_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    lock_path, log_path, separator, *command = arguments
    assert separator == "--" and command
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe is the only way to stop us
    if sys.platform == "linux":  # orphans of the cell become our children, so we can find them
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with open(lock_path, "a") as lock, open(log_path, "ab", buffering=0) as log:
        if not _locked(lock):
            return BUSY
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
        while child.poll() is None:
            if select.select([0], [], [], 0.1)[0] and not os.read(0, 1):
                stop(psutil.Process().children(recursive=True))
        stop(psutil.Process().children(recursive=True))
        return child.returncode if child.returncode >= 0 else 128 - child.returncode


def stop(processes: list[psutil.Process], grace: float = GRACE_SECONDS) -> None:
    """SIGTERM to all of them, SIGKILL to those who stay."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        processes = psutil.wait_procs(processes, timeout=grace)[1]
        if not processes:
            return


def _locked(lock) -> bool:
    """The guard of a sweep killed a moment ago may still be clearing up: wait for it."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:2]):
        raise SystemExit(print(__doc__))
    raise SystemExit(main(sys.argv[1:]))
