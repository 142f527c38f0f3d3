"""Step time of CreditSFTTrainer over TRL's SFTTrainer, step by step side by side in one run.

    python benchmarks/cost/sft_step.py [--steps 60] [--weight seq_mean] [--accumulation 1]

Three trainers are alive at once, each in a thread of its own, and take turns: step k of TRL's, of ours, and of TRL's
once more, on the same texts from the same weights. The third shows what the measurement itself is worth. On a CPU seconds
are the thread's processor time, which leaves out the waiting for other programs though not what they do to the caches, on
a GPU wall time. The weights' own time (lengths gathered, weights computed) is measured within.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import threading
import time

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tasks.corpus import corpus
from trainers.model.embedded import embedded
from trainers.sft import CreditSFTTrainer

WARM = 3  # steps that are not counted


class Turn(TrainerCallback):
    """Seconds of each step. After a step the other trainer goes on, and this one waits until it is called again."""

    def __init__(self, clock):
        self.clock, self.called, self.other, self.began, self.seconds = clock, threading.Event(), None, None, []

    def on_train_begin(self, args, state, control, **kwargs):
        self._wait()

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(self.clock() - self.began)
        self.other.called.set()
        self._wait()

    def on_train_end(self, args, state, control, **kwargs):
        self.other.called.set()

    def _wait(self):
        self.called.wait()
        self.called.clear()
        self.began = self.clock()


class Timed(CreditSFTTrainer):
    """Keeps the seconds of computing the weights."""

    clock = staticmethod(time.thread_time)

    def _attach_weights(self, batches: list) -> None:
        began = self.clock()
        super()._attach_weights(batches)
        self.own = [*getattr(self, "own", []), self.clock() - began]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 60), ("batch", 64), ("accumulation", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--weight", default="seq_mean")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.gpu or options.threads > 1 else time.thread_time
    task = corpus(n_train=2048, n_eval=0)
    policy = embedded(task, pretrain={"steps": 0})
    rows = task.demonstrations(2048, 0)
    with tempfile.TemporaryDirectory() as folder:
        turns = [Turn(clock) for _ in range(3)]
        for place, turn in enumerate(turns):
            turn.other = turns[(place + 1) % 3]
        trainers = [
            make_trainer(weight, turn, policy, rows, folder, options)
            for weight, turn in zip((None, options.weight, None), turns, strict=True)
        ]
        trainers[1].clock = clock
        turns[0].called.set()
        threads = [threading.Thread(target=trainer.train) for trainer in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    theirs, ours, again = (turn.seconds[WARM:] for turn in turns)
    own, step = statistics.median(trainers[1].own[WARM:]), statistics.median(theirs)
    print(f"{len(theirs)} steps of {options.batch} texts; TRL's median {step:.4f} s")
    for name, seconds in ((f"weight={options.weight}", ours), ("TRL again", again)):
        low, middle, high = statistics.quantiles([b / a for a, b in zip(theirs, seconds, strict=True)], n=4)
        print(f"{name} over TRL: median of pairs {middle:.4f} (quartiles {low:.4f} to {high:.4f}), of the sums "
              f"{sum(seconds) / sum(theirs):.4f}")  # fmt: skip
    print(f"the weights themselves {own * 1e3:.2f} ms, {own / step:.2%} of TRL's step")


def make_trainer(weight: str | None, turn: Turn, policy, rows: list, folder: str, options: argparse.Namespace):
    given = {
        "model": copy.deepcopy(policy.model),
        "args": SFTConfig(
            output_dir=f"{folder}/{weight}",
            per_device_train_batch_size=options.batch // options.accumulation,
            gradient_accumulation_steps=options.accumulation,
            max_steps=options.steps + WARM,
            learning_rate=1e-5,
            max_length=128,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=not options.gpu,
            loss_type="nll",
        ),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": policy.tokenizer,
        "callbacks": [turn],
    }
    trainer = SFTTrainer(**given) if weight is None else Timed(**given, weight=weight)
    trainer.remove_callback(PrinterCallback)
    return trainer


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
