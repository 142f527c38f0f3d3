"""What `jobs=2` buys: the same cells of one sweep one after the other and two at a time, in one run, warm cache.

    PYTHONPATH=. python benchmarks/cost/sweep.py [--steps 10] [--cells 4] [--rounds 1] [key=value ...]

Prints wall times from start to report, cells an hour, and their ratio. The two orders alternate over the rounds. Other work on the machine
makes the ratio smaller than it is: run it alone.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sweep(folder: str, jobs: int, arguments: list[str]) -> float:
    """Wall seconds from start to report."""
    began = time.monotonic()
    command = [sys.executable, "sweep.py", *arguments, f"jobs={jobs}", f"sweep_dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cells", type=int, default=4, choices=(2, 4, 6, 8))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    seeds = ",".join(map(str, range(given.cells // 2)))
    cells = ["credit=uniform,seq_norm", f"seed={seeds}", f"trainer.max_steps={given.steps}", *given.overrides]
    own = [word for word in given.overrides if word.split("=")[0].split(".")[0] not in ("check", "launch", "report")]
    subprocess.run(
        [sys.executable, "train_grpo.py", "build_only=true", *own],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    wall: dict[int, list[float]] = {1: [], 2: []}
    for i in range(given.rounds):
        for jobs in (1, 2) if i % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory() as folder:
                wall[jobs].append(sweep(folder, jobs, cells))
            print(f"round {i + 1}, jobs={jobs}: {wall[jobs][-1]:.1f} s for {given.cells} cells", flush=True)
    one, two = (statistics.median(wall[jobs]) for jobs in (1, 2))
    print(
        f"cells an hour: {3600 * given.cells / one:.0f} one after the other, {3600 * given.cells / two:.0f} two at a time"
    )
    print(f"throughput, jobs=2 over jobs=1: {one / two:.2f}")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
