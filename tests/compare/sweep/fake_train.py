"""A trainer with the contract of train_grpo.py and none of its weight: steps are numbers from a seeded generator.

    fake_train.py credit=... seed=... [steps=20] [pause=0.02] [crash_at=N [crash_once=true]] run_dir=... resume=true
Checkpoints every 5 steps; resume continues after the last one; summary.json is written last.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    steps, pause = int(given.get("steps", 20)), float(given.get("pause", 0.02))
    if "bad" in given:
        print(f"fake_train.py: bad={given['bad']} is no setting", file=sys.stderr)
        return 2
    if "--cfg" in sys.argv:
        print(
            f"trainer:\n  max_steps: {steps}\n  per_device_train_batch_size: 8\n"
            f"  max_completion_length: ${{task.count}}\ntask:\n  count: 10\n  name: {given.get('task')}\n"
            f"credit:\n  name: {given.get('credit')}\n  weight: {given.get('credit/weight', given.get('credit'))}\nbuilt: no"
        )
        return 0
    folder = Path(given["run_dir"].strip("'"))
    if given.get("build_only") == "true":
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "builds.txt").open("a") as file:
            file.write(f"{given.get('task')}\n")
        return 0
    if (folder / "summary.json").exists():
        print(f"{folder} holds a finished run", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()} {sorted(os.sched_getaffinity(0))} {os.environ['OMP_NUM_THREADS']}\n")
    (folder / "config.yaml").write_text(f"trainer:\n  max_steps: {steps}\n")
    if "child" in given:  # something that would outlive us
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(folder)], start_new_session=True)
    checkpoints = folder / "checkpoints"
    done = max((int(path.name) for path in checkpoints.glob("[0-9]*")), default=0)
    metrics = folder / "metrics.jsonl"
    kept = (
        [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= done]
        if metrics.exists()
        else []
    )
    metrics.write_text("".join(line + "\n" for line in kept))
    for step in range(done + 1, steps + 1):
        noise = random.Random(f"{given.get('credit')} {given.get('seed')} {step}").random()
        if given.get("crash_at") == str(step) and not (given.get("crash_once") and (folder / "crashed").exists()):
            (folder / "crashed").touch()
            raise RuntimeError(f"crash at step {step}")
        time.sleep(pause)
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "reward": step / steps + noise / 10, "num_tokens": 80 * step}) + "\n")
        if step % 5 == 0:
            half = checkpoints / f"half{step}"
            half.mkdir(parents=True)
            (half / "weights").write_bytes(b"0" * 10_000)
            half.rename(checkpoints / str(step))
            for old in checkpoints.glob("[0-9]*"):
                if int(old.name) < step:
                    shutil.rmtree(old)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"seed": int(given.get("seed", 0)), "steps": steps}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
