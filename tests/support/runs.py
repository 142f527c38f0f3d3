"""Real `train_grpo.py` runs, small enough for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RANKS = Path(__file__).resolve().parent / "ranks"  # scripts for several processes
# A model of a few thousand parameters, hardly warm-started: these runs test the machinery, not the learning.
SMALL = [
    "model.hidden=16",
    "model.layers=1",
    "model.heads=2",
    "model.intermediate=32",
    "model.pretrain.steps=2",
    "model.pretrain.batch=4",
    "trainer.per_device_train_batch_size=8",
    "trainer.per_device_eval_batch_size=8",
    "trainer.num_generations=4",
    "trainer.max_completion_length=12",
    "task.n_train=64",
    "task.n_eval=8",
    "show=1",
]
# The answers of such a model are never right, so nothing would be learned. This reward tells its completions apart.
LIVELY = f"reward.funcs=[{ROOT / 'tests' / 'support' / 'reward_samples.py'}:lively]"


def train(*overrides: str, script: str = "train_grpo.py", ranks: int = 1, cwd: Path | None = None, check: bool = True):
    """Runs the verb to its end. Returns the completed process, output as text."""
    done = subprocess.run(
        command(*overrides, script=script, ranks=ranks),
        capture_output=True,
        text=True,
        timeout=400,
        env=environment(),
        cwd=cwd or ROOT,
    )
    assert not check or done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done


def killed(*overrides: str, when: Path, rows: int) -> None:
    """Starts the verb and kills it, without warning, once the file `when` has `rows` lines."""
    process = subprocess.Popen(
        command(*overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), cwd=ROOT
    )
    try:
        for _ in range(4000):
            if when.exists() and len(when.read_text().splitlines()) >= rows:
                break
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def command(*overrides: str, script: str = "train_grpo.py", ranks: int = 1) -> list[str]:
    launcher = [sys.executable]
    if ranks > 1:
        rendezvous = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks), *rendezvous]
    return [*launcher, str(ROOT / script), *overrides]


def environment() -> dict[str, str]:
    return os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def run_ranks(script: Path, *arguments, ranks: int = 2, timeout: float = 540) -> None:
    """Starts `script` on `ranks` gloo processes and fails with the end of its output, or after `timeout` seconds."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--master_port", "0"]
    command[-2:] = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    with subprocess.Popen(
        [*command, str(script), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            _, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its processes; killed, it would leave them behind
            process.communicate(timeout=60)
            raise AssertionError(f"the processes did not end within {timeout:.0f} s") from None
    assert process.returncode == 0, said[-3000:]


_VOLATILE = ("time", "seconds", "runtime", "per_second")


def lasting_rows(folder: Path) -> list[dict]:
    """metrics.jsonl without what no two runs share."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not any(word in k for word in _VOLATILE)} for row in found]
