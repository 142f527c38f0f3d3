"""What a batch of the audit costs in training steps of the same batch, and whether its memory grows with the number of strategies.

    python benchmarks/cost/audit.py [--sizes 0.3 6 34] [--out docs/results/audit/cost.json]

Every measurement is a process of its own, on random weights; the median of a few batches. Seconds are CPU time of one thread, which
other work on the machine disturbs less; a step is one of `CreditGRPOTrainer` with `rloo`, its optimiser included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIZES = {"0.3": (96, 3), "6": (288, 6), "34": (640, 7)}  # millions of parameters: hidden, layers
BATCHES = {"0.3": 3, "6": 3, "34": 1}
STRATEGIES = {
    1: ["dr_grpo"],
    4: ["dr_grpo", "seq_norm", "uniform", "spans"],
    8: ["dr_grpo", "seq_norm", "uniform", "spans", "opo", "opo_loo", "otb", "grpo_s"],
}
ROWS, GROUP, LENGTH, PART = 16, 4, 32, 16


def settings(folder: str, part: int, steps: int) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=ROWS // part,
        num_generations=GROUP,
        max_completion_length=LENGTH,
        generation_kwargs={"min_new_tokens": LENGTH // 2},
        max_steps=steps,
        loss_type="dr_grpo",
        learning_rate=1e-6,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1000,
        disable_tqdm=True,
    )


def policy(size: str) -> dict[str, Any]:
    from support.exact.swapped import prompts
    from support.tiny import tiny_model, tiny_tokenizer

    hidden, layers = SIZES[size]
    shape = dict(
        hidden_size=hidden, intermediate_size=8 * hidden // 3, num_hidden_layers=layers, initializer_range=0.02
    )
    model = tiny_model(**shape, max_position_embeddings=128)
    return dict(model=model, reward_funcs=letters, train_dataset=prompts(count=40), processing_class=tiny_tokenizer())


def letters(completions: list[str], **columns: Any) -> list[float]:
    return [len(set(text)) / 8 + text.count("a") / 16 for text in completions]


def train(size: str, steps: int) -> dict[str, Any]:
    """Seconds of a training step."""
    from transformers import PrinterCallback, TrainerCallback

    from trainers.grpo import CreditGRPOTrainer

    stamps: list[float] = []

    class Stamps(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            stamps.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        trainer = CreditGRPOTrainer(
            args=settings(folder, PART, steps + 1), credit="rloo", callbacks=[Stamps()], **policy(size)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return {
        "seconds": [after - before for before, after in pairwise(stamps)],
        "peak_mb": peak_mb(),
    }


def audit(size: str, count: int, part: int, batches: int) -> dict[str, Any]:
    """Seconds of each batch."""
    from configs.compose import compose_strategy
    from trainers.audit.candidates import LENGTH as OF_LENGTH
    from trainers.audit.candidates import Candidate
    from trainers.audit.engine import AuditPlan, Engine
    from trainers.audit.store import Store
    from trainers.audit.trainer import AuditTrainer

    candidates = [Candidate(name, compose_strategy([f"credit={name}"])) for name in ["rloo", *STRATEGIES[count]]]
    candidates.append(Candidate(OF_LENGTH, candidates[0].strategy, of_length=True))
    stamps: list[float] = []
    passes: list[float] = []

    def told(done: int, facts: dict[str, Any]) -> None:
        stamps.append(time.process_time())
        passes.append(facts["passes"] / facts["parts"])

    with tempfile.TemporaryDirectory() as folder:
        trainer = AuditTrainer(args=settings(folder, part, 1), candidates=candidates, **policy(size))
        store = Store(Path(folder) / "audit", True)
        store.begin({}, False)
        engine = Engine(trainer, AuditPlan(batches=batches, share_batches=0), store, ["letters"], told)
        stamps.append(time.process_time())
        engine.collect()
        found = {
            "parameters": engine.sketch.parameters,
            "seconds": [after - before for before, after in pairwise(stamps)],
            "directions": statistics.mean(passes),
            "peak_mb": peak_mb(),
        }
    return found


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def job(words: tuple[Any, ...]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    kind, *rest = words
    return {"train": train, "audit": audit}[kind](*rest)


def measured(size: str, batches: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    most = max(STRATEGIES)
    wanted = [("audit", size, count, PART, batches) for count in STRATEGIES] + [("audit", size, most, 1, batches)]

    def alone(words: tuple[Any, ...]) -> dict[str, Any]:
        with context.Pool(1) as pool:
            return pool.apply(job, (words,))

    step = alone(("train", size, batches))
    of_step = statistics.median(step["seconds"])
    rows = []
    for words in wanted:
        found = alone(words)
        seconds = statistics.median(found["seconds"])
        rows.append(
            {
                "strategies": words[2],
                "rows at once": words[3],
                "backward passes of each part": found["directions"],
                "seconds": seconds,
                "training steps": seconds / of_step,
                "peak_mb": found["peak_mb"],
            }
        )
        print(f"{size} M, {words[2]} strategies, {words[3]} rows at once: {rows[-1]}", flush=True)
    parameters = found["parameters"]
    return {"parameters": parameters, "step": {"seconds": of_step, "peak_mb": step["peak_mb"]}, "audit": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="M", help="0.3, 6, 34")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "audit" / "cost.json")
    given = parser.parse_args()
    from trainers.run.tell.facts import versions
    from userio.git import code_commit

    commit = code_commit(Path(__file__).resolve())
    found = {size: measured(size, BATCHES[size]) for size in given.sizes}
    record = {
        "command": " ".join(["python benchmarks/cost/audit.py", *sys.argv[1:]]),
        "commit": commit and commit.id,
        "versions": versions(),
        "batch": {
            "completions": ROWS,
            "group": GROUP,
            "tokens": [LENGTH // 2, LENGTH],
            "rows at once in training": PART,
        },
        "strategies": STRATEGIES,
        "sizes": found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
