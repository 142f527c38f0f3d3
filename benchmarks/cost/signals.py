"""What signals cost: step time, operations and memory of strategies that ask for one, over `dr_grpo` on the same work.

    python benchmarks/cost/signals.py [--steps 3] [--rounds 3] [--hidden 96] [--layers 3] [--out docs/results/credit]

All strategies train the same model on the same prompts with the same seed for the same number of completions of full length
(no end of text), side by side: a round runs each once, in turn, and ratios are taken within a round before the median.
Operations are counted by torch and do not depend on the machine; memory is the largest of a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from tiny_grpo import letters, options
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback

from configs.compose import compose_strategy
from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

_CUT = "credit.signals.answers.cuts={_target_:credit.signals.cuts.fractions,parts:%d}"
# Label -> overrides, and options of TRL's. The first is the yardstick.
RUNS: dict[str, tuple[list[str], dict]] = {
    "dr_grpo": (["credit=dr_grpo"], {}),
    "dr_grpo, TRL's own old log-probs": (["credit=dr_grpo"], {"old_logps": True}),
    "S1 otb": (["credit=otb"], {}),
    "S1 otb, TRL's own old log-probs": (["credit=otb"], {"old_logps": True}),
    "S3 sdpo, teacher self": (["credit=sdpo", "credit.teacher.context.success=-1"], {}),
    "S3 igpo, answers at 1 cut": (["credit=igpo", _CUT % 1], {}),
    "S3 igpo, answers at 4 cuts": (["credit=igpo", _CUT % 4], {}),
}


def trainer_of(label: str, given: argparse.Namespace, folder: str) -> CreditGRPOTrainer:
    words, more = RUNS[label]
    torch.manual_seed(0)
    sizes = dict(hidden_size=given.hidden, intermediate_size=2 * given.hidden, num_hidden_layers=given.layers)
    model = tiny_model(**sizes, max_position_embeddings=4 * given.length)
    texts = [a + b for a in LETTERS for b in LETTERS] * 4
    trainer = CreditGRPOTrainer(
        model=model,
        reward_funcs=letters,
        args=options(
            folder,
            given.batch,
            given.length,
            given.steps,
            loss_type="dr_grpo",
            bf16=False,
            generation_kwargs={"min_new_tokens": given.length},
        ),
        train_dataset=Dataset.from_dict({"prompt": texts, "answer": [text[::-1] for text in texts]}),
        processing_class=tiny_tokenizer(),
        credit=compose_strategy(words),
    )
    trainer.remove_callback(PrinterCallback)
    if more.get("old_logps"):
        trainer._generate_and_score_completions = partial(_as_if_used_twice, trainer)
    return trainer


def _as_if_used_twice(trainer: CreditGRPOTrainer, inputs):
    """TRL makes its pass where a batch serves several steps. It is told so while it scores, and the rest of the work stays."""
    used, trainer.num_iterations = trainer.num_iterations, 2
    try:
        return type(trainer)._generate_and_score_completions(trainer, inputs)
    finally:
        trainer.num_iterations = used


def seconds(label: str, given: argparse.Namespace) -> tuple[float, float, float]:
    """Of a step: by the clock, of this process's CPU time, and of the clock without the time that tokens are sampled."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, sampled = trainer_of(label, given, folder), [0.0]
        generate = trainer._generate_single_turn

        def timed(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return generate(*args, **kwargs)
            finally:
                sampled[0] += time.perf_counter() - begun

        trainer._generate_single_turn = timed
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gc.collect()
    return wall / given.steps, cpu / given.steps, (wall - sampled[0]) / given.steps


def operations(label: str, given: argparse.Namespace) -> int:
    """Floating-point operations of a step, those of sampling left out."""
    one = argparse.Namespace(**{**vars(given), "steps": 1})
    with tempfile.TemporaryDirectory() as folder:
        trainer, counter = trainer_of(label, one, folder), FlopCounterMode(display=False)
        generate, sampled = trainer._generate_single_turn, [0]

        def uncounted(*args, **kwargs):
            before = counter.get_total_flops()
            try:
                return generate(*args, **kwargs)
            finally:
                sampled[0] += counter.get_total_flops() - before

        trainer._generate_single_turn = uncounted
        with counter:
            trainer.train()
        return counter.get_total_flops() - sampled[0]


def peak(label: str, given: argparse.Namespace) -> float:
    """Bytes, of a process of its own that does nothing else."""
    words = [
        word
        for name in ("steps", "hidden", "layers", "batch", "length")
        for word in (f"--{name}", getattr(given, name))
    ]
    line = [sys.executable, __file__, "--peak-of", label, *map(str, words)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _most_held() -> int:
    """Bytes, of Linux: `ru_maxrss` would say what the parent held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 3), ("rounds", 3), ("hidden", 96), ("layers", 3), ("batch", 32), ("length", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak_of:
        with contextlib.redirect_stdout(sys.stderr):
            seconds(given.peak_of, given)
        print(_most_held())
        return
    yardstick = next(iter(RUNS))
    counted = {label: operations(label, given) for label in RUNS}
    rounds = [{label: seconds(label, given) for label in RUNS} for _ in range(given.rounds)]
    peaks = {label: peak(label, given) for label in RUNS}
    one_pass = counted["dr_grpo, TRL's own old log-probs"] - counted[yardstick]
    rows = {}
    for label in RUNS:
        ratios = [[mine / base for mine, base in zip(one[label], one[yardstick], strict=True)] for one in rounds]
        clock, cpu, unsampled = (statistics.median(column) for column in zip(*ratios, strict=True))
        rows[label] = {
            "operations": counted[label] / counted[yardstick],
            "passes": (counted[label] - counted[yardstick]) / one_pass,
            "clock": clock,
            "cpu": cpu,
            "clock_without_sampling": unsampled,
            "memory_mb": (peaks[label] - peaks[yardstick]) / 1e6,
        }
        print(
            f"{label:34} operations x {rows[label]['operations']:.2f} ({rows[label]['passes']:+.2f} passes)  step x {clock:.2f}, "
            f"CPU time x {cpu:.2f}, without sampling x {unsampled:.2f}  memory {rows[label]['memory_mb']:+.0f} MB"
        )
    if given.out:
        sizes = {name: getattr(given, name) for name in ("steps", "rounds", "hidden", "layers", "batch", "length")}
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "signals_cost.json").write_text(
            json.dumps({"sizes": sizes, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
