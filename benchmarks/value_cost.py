"""What a critic costs: step time and peak memory of credit=value over credit=dr_grpo, side by side in one run.

    python benchmarks/value_cost.py                                   # three sizes, the head
    python benchmarks/value_cost.py --credits value value_sum "value credit/critic=separate"
    python benchmarks/value_cost.py --sizes 896x24 --vocabulary 151936 --batch 16 --length 256     # a 0.5 B shape, for a GPU

Each measurement is a process of its own; rounds alternate the order and ratios are taken within a round, so that a machine
that slows down half-way slows all. Time: seconds of a step after the first two, by the clock and of CPU time. Memory: the peak of
the process over what it held before training (on a GPU: the allocator's peak). The policy is a Llama of random weights that
writes completions of a fixed length, so all arms do the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
SIZES = ("96x3", "256x6", "512x8")


def letters(completions, **columns):
    return [text.count("a") / 10 for text in completions]


def measure(credit: str, width: int, layers: int, given: argparse.Namespace) -> dict:
    """Runs in a process of its own."""
    import torch
    from datasets import Dataset
    from tiny import LETTERS, tiny_model, tiny_tokenizer
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig

    from trainers.grpo import CreditGRPOTrainer

    torch.set_num_threads(given.threads)
    on_gpu = torch.cuda.is_available()
    model = tiny_model(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        vocab_size=max(given.vocabulary, 11),
        max_position_embeddings=given.length + 8,
        initializer_range=0.02,
    )
    times: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            if on_gpu:
                torch.cuda.synchronize()
            times.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        trainer = CreditGRPOTrainer(
            model=model,
            reward_funcs=letters,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=given.batch,
                num_generations=8,
                max_completion_length=given.length,
                generation_kwargs={"min_new_tokens": given.length},
                max_steps=given.steps + 2,
                bf16=on_gpu,
                loss_type="dr_grpo",
                gradient_checkpointing=False,
                save_strategy="no",
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"prompt": [a + b for a in LETTERS for b in LETTERS] * 4}),
            processing_class=tiny_tokenizer(),
            callbacks=[Clock()],
            credit=credit,
        )
        trainer.remove_callback(PrinterCallback)
        before = _held()
        trainer.train()
        peak = (
            torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
    steps = len(times) - 2
    return {
        "clock": (times[-1][0] - times[1][0]) / steps,
        "CPU time": (times[-1][1] - times[1][1]) / steps,
        "memory": peak - (0 if on_gpu else before),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _held() -> int:
    """Bytes the process holds now."""
    import psutil

    return psutil.Process().memory_info().rss


def apart(credit: str, size: str, given: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--one", credit, "--sizes", size]
    for name in ("steps", "batch", "length", "threads", "vocabulary"):
        command += [f"--{name}", str(getattr(given, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("steps", 6),
        ("rounds", 3),
        ("batch", 64),
        ("length", 64),
        ("threads", 1),
        ("vocabulary", 11),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="width x layers")
    parser.add_argument("--credits", nargs="+", default=["value"])
    parser.add_argument("--against", default="dr_grpo")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, *map(int, given.sizes[0].split("x")), given)))
        return
    for size in given.sizes:
        arms = [given.against, *given.credits]
        found: dict[str, list[dict]] = {arm: [] for arm in arms}
        for round_ in range(given.rounds):
            for arm in arms if round_ % 2 else reversed(arms):
                found[arm].append(apart(arm, size, given))
        base = found[given.against]
        print(
            f"{size}: {base[0]['parameters'] / 1e6:.1f} M parameters, {given.batch} completions of {given.length} tokens; "
            f"{given.against}: {statistics.median(row['clock'] for row in base):.3f} s a step, "
            f"{statistics.median(row['memory'] for row in base) / 2**20:.0f} MiB"
        )
        for arm in given.credits:
            words = []
            for kind in ("clock", "CPU time", "memory"):
                ratios = [a[kind] / b[kind] for a, b in zip(found[arm], base, strict=True)]
                words.append(f"{kind} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
            print(f"  {arm}: {', '.join(words)} of {given.against}'s", flush=True)


if __name__ == "__main__":
    main()
