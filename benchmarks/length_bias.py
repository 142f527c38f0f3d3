"""Does weighing every text the same shorten what a model writes? Weights of likelihood training, paired over seeds.

    python benchmarks/length_bias.py --seeds 5

Each run is `train_sft.py experiment=length_bias weight=... seed=...`: within a seed all weights have the same initial
model, texts and order of batches. At the end every model writes 1024 texts at temperature 1. Results so far are kept in
--out, and a second call goes on from there. The exact counterpart is `python -m lab.length_bias`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from lab.stats import mean_interval, paired_difference
from tasks.corpus import stories
from trainers.probe import repeated_pairs
from trainers.run_sft import register_schema, run_sft
from trainers.verb import compose_command

WEIGHTS = {
    "token_mean": ["weight=token_mean"],
    "length_power 0.5": ["weight=length_power", "weight.gamma=0.5"],
    "seq_mean": ["weight=seq_mean"],
}
REFERENCE = "token_mean"
MEASURES = {
    "mean_length": "length written (tokens)",
    "repetition": "repeated pairs",
    "excess_repetition": "repeated pairs beyond those of stories of the same lengths",
    "eval_loss": "held-out loss (token mean, nats)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/length_bias.json"))
    parser.add_argument("override", nargs="*", help="further settings of train_sft.py")
    options = parser.parse_args()
    register_schema()
    done = json.loads(options.out.read_text()) if options.out.is_file() else []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in WEIGHTS:
            if any(run["seed"] == seed and run["weight"] == name for run in done):
                continue
            started = time.perf_counter()
            done.append({"seed": seed, "weight": name, **train(name, seed, options.override)})
            options.out.write_text(json.dumps(done))
            numbers = "  ".join(f"{key} {done[-1][key]:.3f}" for key in MEASURES)
            print(f"seed {seed}  {name:<16}  {numbers}  ({time.perf_counter() - started:.0f} s)", flush=True)
    print(report([run for run in done if run["seed"] < options.seeds], options.seeds))


def train(name: str, seed: int, overrides: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        given = [*WEIGHTS[name], "experiment=length_bias", f"seed={seed}", f"model.pretrain.seed={seed}"]
        quiet = ["trainer.save_strategy=no", "trainer.eval_on_start=false", "show=0", f"run_dir={folder}/run"]
        run_sft(compose_command("train_sft", [*given, *quiet, *overrides]))
        summary = json.loads((Path(folder) / "run/summary.json").read_text())
        written = [json.loads(line) for line in (Path(folder) / "run/written.jsonl").read_text().splitlines()]
    usual = repetition_by_length()
    excess = [row["repetition"] - usual[min(usual, key=lambda n: abs(n - row["length"]))] for row in written]
    return {
        **summary["written"],
        "excess_repetition": sum(excess) / len(excess),
        "eval_loss": summary["eval_loss_after"],
        "seconds": summary["seconds"],
    }


@lru_cache
def repetition_by_length() -> dict[int, float]:
    """Mean repetition of made-up stories of each length that at least ten of 50,000 have."""
    found: dict[int, list[float]] = {}
    for text in stories(50_000, seed=1):
        tokens = [*text.split(), "<eos>"]
        found.setdefault(len(tokens), []).append(repeated_pairs(tokens))
    return {length: sum(shares) / len(shares) for length, shares in found.items() if len(shares) >= 10}


def report(done: list[dict], seeds: int) -> str:
    def scores(name: str, key: str) -> list[list[float]]:
        return [[next(r[key] for r in done if r["weight"] == name and r["seed"] == s) for s in range(seeds)]]

    texts = [[*text.split(), "<eos>"] for text in stories(4096, seed=0)]
    length, repetition = (sum(f(t) for t in texts) / len(texts) for f in (len, repeated_pairs))
    powers = {"token_mean": 0.0, "length_power 0.5": 0.5, "seq_mean": 1.0}
    predicted = {
        name: sum(len(t) ** (1 - g) for t in texts) / sum(len(t) ** -g for t in texts) for name, g in powers.items()
    }
    lines = [f"\nthe stories themselves: {length:.2f} tokens, repeated pairs {repetition:.4f}; {seeds} seeds"]
    for key, label in MEASURES.items():
        lines.append(f"\n{label}: mean [95 % interval], difference to {REFERENCE} [95 % interval]")
        for name in WEIGHTS:
            mean = mean_interval(scores(name, key))
            line = f"  {name:<16}  {mean.value:8.4f} [{mean.low:.4f}, {mean.high:.4f}]"
            if name != REFERENCE:
                gap = paired_difference(scores(name, key), scores(REFERENCE, key))
                line += f"   {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]  p {gap.p:.4f}"
            if key == "mean_length":
                line += f"   predicted {predicted[name]:.2f}"
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
