"""README's table: reward of the default run, mean of the last 10 of 80 steps, for each strategy and seed.

    python benchmarks/stages/default_run.py --out docs/results/default_run.json

Each cell is `train_grpo.py credit=... seed=...` in a process of its own (about 100 s on two idle cores); cells that are finished
are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STRATEGIES = ("uniform", "seq_norm", "dr_grpo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/default_run"))
    parser.add_argument("--out", type=Path, default=Path("runs/default_run.json"))
    options = parser.parse_args()
    rows = {name: [final_reward(name, seed, options.runs) for seed in range(options.seeds)] for name in STRATEGIES}
    print("| | " + " | ".join(f"seed {seed}" for seed in range(options.seeds)) + " | mean |")
    for name, rewards in rows.items():
        print(
            f"| `{name}` | " + " | ".join(f"{reward:.3f}" for reward in [*rewards, sum(rewards) / len(rewards)]) + " |"
        )
    found = {
        "command": "python benchmarks/stages/default_run.py",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "final_reward": {name: [*rewards, sum(rewards) / len(rewards)] for name, rewards in rows.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


def final_reward(name: str, seed: int, runs: Path) -> float:
    folder = runs.resolve() / name / f"seed{seed}"
    if not (folder / "summary.json").is_file():
        print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
        command = [
            sys.executable,
            "train_grpo.py",
            f"credit={name}",
            f"seed={seed}",
            f"run_dir={folder}",
            "resume=true",
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())["final_reward"]


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
