"""Commands that run often, and may be killed by SIGKILL.

Most of a small run is imports, so a server imports them once and forks: each child runs the verb's own script as
`python train_grpo.py ...` does, in a process of its own, and dies of a SIGKILL like any other.

    python tests/support/killing.py   reads {"argv": [script, *overrides], "out": path, "err": path, "cwd": path, "env": {}} a line,
                                      answers the child's pid at once and its exit status when it is gone
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])] if __name__ == "__main__" else []

import psutil

from support.runs import ROOT, command, environment

LIMIT = 400  # seconds that any life may take


class ForkServer:
    """Starts lives of a command. Use as a context manager."""

    def __enter__(self) -> ForkServer:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            cwd=ROOT,
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *error) -> None:
        self._process.stdin.close()
        self._process.wait()

    def train(
        self, *overrides: str, script: str = "train_grpo.py", cwd: Path | None = None, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """As `support.runs.train` on one process, with `env` in its environment."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            status = self._live(script, list(overrides), out, err, cwd=cwd, env=env)
            done = subprocess.CompletedProcess(overrides, status, *(path.read_text() for path in (out, err)))
        assert not check or done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        return done

    def live(self, script: str, overrides: list[str], log: Path, doom: Callable[[], bool] | None = None) -> int:
        """One life. `doom`: asked all the time, and kills when it says so. Returns the exit status, -9 of a killed one."""
        return self._live(script, overrides, log, log, doom)

    def _live(self, script, overrides, out, err, doom=None, cwd=None, env=None) -> int:
        asked = {"argv": [str(ROOT / script), *overrides], "out": str(out), "err": str(err)}
        asked |= {"cwd": str(cwd or ROOT), "env": env or {}}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        pid, started = int(self._answer()), time.monotonic()
        while doom is not None and not _is_over(pid):
            if doom():
                os.kill(pid, signal.SIGKILL)  # the server has not waited for it yet, so the number is still its own
                break
            assert time.monotonic() - started < LIMIT
            time.sleep(0.002)
        return int(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the server died"
        return line.strip()


class RealCommands:
    """The same with a new interpreter for each life, and as many ranks as asked for; all of them die together."""

    def __init__(self, ranks: int = 1):
        self._ranks = ranks

    def live(self, script: str, overrides: list[str], log: Path, doom: Callable[[], bool] | None = None) -> int:
        with log.open("a") as out:
            process = subprocess.Popen(
                command(*overrides, script=script, ranks=self._ranks),
                stdout=out,
                stderr=out,
                env=environment(),
                cwd=ROOT,
            )
        started = time.monotonic()
        while process.poll() is None:
            assert time.monotonic() - started < LIMIT
            if doom is not None and doom():
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                for each in family:  # the launcher gives its ranks sessions of their own
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
                psutil.wait_procs(family[1:], timeout=60)
                return process.wait()
            time.sleep(0.01)
        return process.returncode


def after(seconds: float) -> Callable[[], bool]:
    """Dies so long after its start."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def after_new(folder: Path, pattern: str, seconds: float) -> Callable[[], bool]:
    """Dies so long after a path that was not there appears: while a checkpoint or the model is written."""
    before, found = set(folder.glob(pattern)), []

    def doom() -> bool:
        if not found and set(folder.glob(pattern)) - before:
            found.append(time.monotonic() + seconds)
        return bool(found) and time.monotonic() > found[0]

    return doom


def random_doom(dice: random.Random, folder: Path, whole: float) -> Callable[[], bool]:
    """At any moment of a life of `whole` seconds, or in the moments after a checkpoint, the model or a picture is begun."""
    moments = {
        "checkpoints/checkpoint-*": 0.15,
        "checkpoints/checkpoint-*/optimizer.pt": 0.05,
        "metrics.jsonl": 0.3,
        "model*": 0.3,
        "curves.png": 0.1,
    }
    if dice.random() < 0.6:
        return after(dice.uniform(0, whole))
    pattern = dice.choice(list(moments))
    return after_new(folder, pattern, dice.uniform(0, moments[pattern]))


def _is_over(pid: int) -> bool:
    """Gone, or a zombie that the server will see."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def _serve() -> None:
    import hydra  # noqa: F401
    import trl.trainer.grpo_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    import trainers.model.embedded
    import trainers.run.grpo
    import trainers.run.likelihood  # noqa: F401

    gc.freeze()  # what is imported is no garbage; every training looks
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(**asked)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(argv: list[str], out: str, err: str, cwd: str, env: dict[str, str]) -> None:
    status = 1
    try:
        os.chdir(cwd)
        os.environ.update(env)
        said, told = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in (out, err))
        null = os.open(os.devnull, os.O_RDONLY)
        for at, to in ((null, 0), (said, 1), (told, 2)):
            os.dup2(at, to)
        sys.argv[:] = argv
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
