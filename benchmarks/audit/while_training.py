"""What `audit.every=1` logs while a run trains, against `python -m lab.audit run=` of its policy and against enumeration.

    python benchmarks/audit/while_training.py --out docs/results/audit/while_training.json

The run has the learning rate 0, so that all of its steps are of one policy, which the audit then looks at. One prompt, eight groups a
step: halves of a batch take its prompts for drawn, and of several prompts that are all in every batch they are not. A few minutes on
one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from kept import ROOT, keep
from letters import exact_numbers, learner_of, words_of, write_model

from configs.compose import named_strategy
from lab.measure.scoring import Scorer

STRATEGIES, STEPS, BATCHES, GENERATIONS, GROUPS = ("dr_grpo", "seq_norm", "spans"), 100, 64, 4, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("runs/audit/while_training.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = write_model(Path(folder) / "model", prompts=1, copies=GROUPS)
        learner = learner_of(place, prompts=1)
        rows = [measured(name, place, learner, options.steps) for name in STRATEGIES]
    keep(
        options.out,
        "python benchmarks/audit/while_training.py",
        {"steps": options.steps, "batches": BATCHES, "rows": rows},
    )
    print(table(rows))


def measured(name: str, place: Path, learner, steps: int) -> dict:
    """Noise over signal of one strategy: exact, as it was logged last, by the audit of the run."""
    run, out = place.parent / name, place.parent / f"{name}_audit"
    words = [
        f"credit={name}",
        "trainer.learning_rate=0",
        f"trainer.max_steps={steps}",
        "audit.every=1",
        f"audit.window={steps}",
    ]
    command("train_grpo.py", *words_of(place, GROUPS, GENERATIONS), *words, f"run_dir={run}", "record.every=0")
    command("-m", "lab.audit", f"run={run}", f"batches={BATCHES}", "shares=0", f"out={out}")
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in logged if "audit/nsr" in row][-1]
    audit = json.loads((out / "audit.json").read_text())["strategies"][name]["nsr"]
    exact = exact_numbers(Scorer(named_strategy(name), learner), GENERATIONS)
    assert exact is not None
    low, high = audit["low"], float("inf") if audit["high"] is None else audit["high"]
    return {
        "strategy": name,
        "exact": exact["nsr"] / GROUPS,
        "online": last["audit/nsr"],
        "audit": audit["value"],
        "low": audit["low"],
        "high": audit["high"],
        "holds": low <= last["audit/nsr"] <= high,
    }


def command(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = ["| strategy | exact | while it trains | audit of the run |", "|---|---|---|---|"]
    for row in rows:
        audit = f"{row['audit']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        lines.append(f"| `{row['strategy']}` | {row['exact']:.2f} | {row['online']:.2f} | {audit} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
