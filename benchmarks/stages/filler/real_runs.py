"""The filler task of benchmarks/stages/filler/filler.py in real runs: `train_grpo.py` with credits that differ in one denominator.

    python benchmarks/stages/filler/real_runs.py [--seeds 10] [--out runs/stages] [--most 4]

A prompt is one of four letters, the reward 1 if the text begins with that letter; full stops follow, up to 24 tokens in
all, and carry no reward. The embedded decoder is warm-started on texts whose letter is random and whose length is free of
it; every run starts from that same model. All completions are recorded. Runs so far are kept (OUT/filler_trainer.json)
and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet

ROOT = Path(__file__).resolve().parents[3]
LETTERS, LONGEST, HAZARD, STEPS, EVERY = "abcd", 24, 1 / 11, 120, 6
ARMS = {
    "seq_norm": ["credit=seq_norm"],
    "group_zscore, constant": ["credit=seq_norm", "credit/weight=constant"],
    "uniform": ["credit=uniform"],
}
MODEL = ["hidden=32", "layers=2", "heads=4", "intermediate=64", "pretrain.steps=200"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=None, help="stop after so many new runs")
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "filler_trainer.json"
    done = json.loads(kept.read_text())["runs"] if kept.is_file() else []
    there = {(run["arm"], run["seed"]) for run in done}
    missing = [(name, seed) for seed in range(options.seeds) for name in ARMS if (name, seed) not in there]
    settings = {"steps": STEPS, "every": EVERY, "rows": 128, "group": 8, "prompts": len(LETTERS), "longest": LONGEST}
    for name, seed in missing[: options.most]:
        started = time.perf_counter()
        done.append({"arm": name, "seed": seed, "curve": train(name, seed)})
        kept.write_text(json.dumps({"settings": settings, "runs": done}))
        last = done[-1]["curve"][-1]
        print(f"{name}, seed {seed}: {last} ({time.perf_counter() - started:.0f} s)", flush=True)


def train(name: str, seed: int) -> list[dict]:
    """Success and mean lengths of right and wrong texts, in the batches of EVERY steps together."""
    with tempfile.TemporaryDirectory() as folder:
        rows = demonstrations(4096)
        path = Path(folder) / "filler.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = [
            f"task.path={path}",
            "task.completion_column=completion",
            "task.answer_column=null",
            "task.name=filler",
        ]
        settings += ["task=jsonl", f"reward.funcs=[{Path(__file__).parent / 'reward.py'}:first_letter]"]
        settings += [f"model.{entry}" for entry in MODEL]
        settings += [
            f"trainer.max_steps={STEPS}",
            f"trainer.max_completion_length={LONGEST}",
            "trainer.save_strategy=no",
        ]
        settings += ["trainer.eval_on_start=false", "trainer.learning_rate=5e-4", f"seed={seed}", "show=0"]
        settings += ["record.every=1", "record.completions=128", f"run_dir={folder}/run"]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [sys.executable, str(ROOT / "train_grpo.py"), *ARMS[name], *settings],
            env=quiet,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise SystemExit(ran.stdout[-2000:] + ran.stderr[-2000:])
        return curve(Path(folder) / "run" / "records")


def demonstrations(count: int) -> list[dict]:
    rng, rows = random.Random("filler demonstrations"), []
    for _ in range(count):
        length = 0
        while length < LONGEST - 2 and rng.random() > HAZARD:
            length += 1
        rows.append({"prompt": rng.choice(LETTERS), "completion": rng.choice(LETTERS) + "." * length})
    return rows


def curve(folder: Path) -> list[dict]:
    found: dict[int, list[tuple[bool, int]]] = {}
    for file in sorted(folder.glob("step*.parquet")):
        table = pyarrow.parquet.read_table(file, columns=["step", "reward", "token_ids"]).to_pylist()
        for row in table:
            found.setdefault((row["step"] - 1) // EVERY, []).append((row["reward"] > 0.5, len(row["token_ids"])))
    points = []
    for part, texts in sorted(found.items()):
        lengths = {right: [length for won, length in texts if won == right] for right in (True, False)}
        mean = {right: sum(each) / len(each) if each else None for right, each in lengths.items()}
        points.append(
            {
                "step": (part + 1) * EVERY,
                "success": len(lengths[True]) / len(texts),
                "right": mean[True],
                "wrong": mean[False],
                "wrong_texts": len(lengths[False]),
            }
        )
    return points


if __name__ == "__main__":
    main()
