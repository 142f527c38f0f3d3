"""`apportion launch ...`: `accelerate launch`, with the end of the run as the end of the command.

    apportion launch --num_processes 2 train_grpo credit=seq_norm

accelerate puts a traceback of its own behind whatever a run says at its end, and ends with 1. Here the run has the last word,
and its exit status is the command's: 130 after Ctrl-C, 3 where nothing could be learned.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import psutil
import torch.distributed.run  # noqa: F401  (sets the levels of its loggers)
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from userio.terminal import steady_output

TRAINING = ("train_grpo", "train_sft", "train_lhts")
_PATIENCE = 60.0  # seconds for a run that was stopped


def main() -> int:
    """Returns the exit status of the process that failed first, 0 if none did."""
    steady_output()
    if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv[1:2]):
        print(__doc__)
        return 0
    arguments = [*sys.argv[1:]]
    place = next((i for i, word in enumerate(arguments) if word in TRAINING), None)
    if place is not None:
        arguments[place : place + 1] = ["-m", f"apportion.{arguments[place]}"]
    for name in ("agent.server.api", "multiprocessing.api"):  # they report each end of a process, as if of their own
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except subprocess.CalledProcessError as error:
        return _status(error.returncode)
    except ChildFailedError as error:
        return _status(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        psutil.wait_procs(psutil.Process().children(), timeout=_PATIENCE)  # they were told, too
        return 130
    return 0


def _status(code: int) -> int:
    return code if code >= 0 else 128 - code
