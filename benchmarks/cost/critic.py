"""What a critic costs: step time and peak memory of credit=value over credit=dr_grpo, side by side in one run.

    python benchmarks/cost/critic.py                                   # three sizes, the head
    python benchmarks/cost/critic.py --credits value decomposition "value credit/critic=separate"
    python benchmarks/cost/critic.py --sizes 896x24 --vocabulary 151936 --batch 16 --length 256     # a 0.5 B shape, for a GPU

Time: the arms train in one process and take turns step by step, and a ratio is that of neighbouring steps, so that a machine
that slows down slows both; the interval is of the median (order statistics, 95 %). Memory: on a CPU the peak of the bytes in
live tensors, counted exactly; on a GPU the allocator's peak. The policy is a Llama of random weights that writes completions
of a fixed length, so all arms do the same work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from scipy.stats import binom
from tiny_grpo import letters, options, prompts
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PrinterCallback, TrainerCallback

from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

SIZES = ("96x3", "256x6", "512x8")
FIRST = 2  # steps that are not counted
SCRATCH = 1 << 28  # TRL's buffer for chunks of a vocabulary is larger, and at a small vocabulary never touched


def make(credit: str, size: str, steps: int, folder: str, given: argparse.Namespace) -> CreditGRPOTrainer:
    width, layers = map(int, size.split("x"))
    model = tiny_model(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        vocab_size=max(given.vocabulary, 11),
        max_position_embeddings=given.length + 8,
        initializer_range=0.02,
    )
    trainer = CreditGRPOTrainer(
        model=model,
        reward_funcs=letters,
        args=options(
            folder,
            given.batch,
            given.length,
            steps,
            generation_kwargs={"min_new_tokens": given.length},
            loss_type="dr_grpo",
            bf16=torch.cuda.is_available(),
        ),
        train_dataset=prompts(),
        processing_class=tiny_tokenizer(),
        credit=credit,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Turns(TrainerCallback):
    """Runs one step, notes its seconds, and hands over to the next trainer."""

    def __init__(self, mine: threading.Semaphore, next_one: threading.Semaphore):
        self.mine, self.next_one, self.seconds = mine, next_one, []

    def on_train_begin(self, *_, **__):
        self.mine.acquire()
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        self.next_one.release()
        self.on_train_begin()

    def on_train_end(self, *_, **__):
        self.next_one.release()


def step_times(arms: list[str], size: str, given: argparse.Namespace) -> tuple[dict[str, list[float]], int]:
    """Seconds of each counted step of each arm, step n of all arms next to one another; and the policy's parameters."""
    batons = [threading.Semaphore(0) for _ in arms]
    turns = {arm: Turns(batons[i], batons[(i + 1) % len(arms)]) for i, arm in enumerate(arms)}
    errors: list[BaseException] = []
    with tempfile.TemporaryDirectory() as folder:
        trainers = {arm: make(arm, size, given.steps + FIRST, folder, given) for arm in arms}

        def train(arm: str) -> None:
            torch.set_num_threads(given.threads)
            try:
                trainers[arm].add_callback(turns[arm])
                trainers[arm].train()
            except BaseException as error:
                errors.append(error)
                for baton in batons:  # nobody waits for this one
                    baton.release(10 * given.steps)

        threads = [threading.Thread(target=train, args=(arm,)) for arm in arms]
        for thread in threads:
            thread.start()
        batons[0].release()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    parameters = sum(p.numel() for p in trainers[arms[0]].model.parameters())
    return {arm: turns[arm].seconds[FIRST:] for arm in arms}, parameters


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages (up to SCRATCH) made inside it and alive; `peak` is the most there were at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.watch(leaf.untyped_storage())
        return out

    def watch(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self.seen and self.seen[key]() is storage:
            return
        size = storage.nbytes()
        if size > SCRATCH:
            return
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(reference: weakref.ref) -> None:
            self.now -= size
            if self.seen.get(key) is reference:
                del self.seen[key]

        self.seen[key] = weakref.ref(storage, gone)


def peak_memory(arm: str, size: str, given: argparse.Namespace) -> int:
    """Bytes at the peak of three steps, the model included."""
    with tempfile.TemporaryDirectory() as folder:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            make(arm, size, 3, folder, given).train()
            return torch.cuda.max_memory_allocated()
        with LiveBytes() as live:
            make(arm, size, 3, folder, given).train()
        return live.peak


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Median and its distribution-free 95 % interval."""
    ordered = sorted(values)
    low = int(binom.ppf(0.025, len(ordered), 0.5))
    return statistics.median(ordered), ordered[max(low - 1, 0)], ordered[min(len(ordered) - low, len(ordered) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 20), ("batch", 64), ("length", 64), ("threads", 1), ("vocabulary", 11)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="width x layers")
    parser.add_argument("--credits", nargs="+", default=["value"])
    parser.add_argument("--against", default="dr_grpo")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for size in given.sizes:
        times, parameters = step_times([given.against, *given.credits], size, given)
        memory = {arm: peak_memory(arm, size, given) for arm in times}
        base = given.against
        print(
            f"{size}: {parameters / 1e6:.1f} M parameters, {given.batch} completions of {given.length} tokens; {base}: "
            f"{statistics.median(times[base]):.3f} s a step, {memory[base] / 2**20:.0f} MiB",
            flush=True,
        )
        for arm in given.credits:
            middle, low, high = median_interval([a / b for a, b in zip(times[arm], times[base], strict=True)])
            print(
                f"  {arm}: time {middle:.3f} [{low:.3f}, {high:.3f}] over {given.steps} pairs of steps, "
                f"memory {memory[arm] / memory[base]:.3f} of {base}'s",
                flush=True,
            )


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
