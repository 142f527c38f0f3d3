"""Step time of CreditSFTTrainer over TRL's SFTTrainer, side by side in one run.

    python benchmarks/sft_time.py [--steps 5] [--rounds 21] [--weight seq_mean]

Both trainers take the same steps on the same texts from the same model. Rounds alternate which goes first, and the ratio
of each pair is taken before the median. Seconds are this process's processor time, which leaves out the waiting for other
programs, though not what they do to the caches. So the weights' own time is measured, too: gathering lengths and
computing weights, as a share of the step. The one other thing that is added is a product of (B, S) numbers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tasks.corpus import corpus
from trainers.embedded import embedded
from trainers.sft import CreditSFTTrainer


class Clock(TrainerCallback):
    """Processor seconds from the end of the second step, when caches are warm, to the end of training."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.began = time.process_time()
        self.ended = time.process_time()


class Timed(CreditSFTTrainer):
    """Keeps the processor seconds of computing the weights."""

    def _attach_weights(self, batches: list) -> None:
        began = time.process_time()
        super()._attach_weights(batches)
        self.own = [*getattr(self, "own", []), time.process_time() - began]


def seconds_per_step(weight: str | None, policy, rows: list, options: argparse.Namespace) -> float:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "model": policy.model,
            "args": SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=options.batch // options.accumulation,
                gradient_accumulation_steps=options.accumulation,
                max_steps=options.steps + 2,
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
            "callbacks": [clock],
        }
        trainer = SFTTrainer(**given) if weight is None else Timed(**given, weight=weight)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if weight is not None:
        options.own.append(statistics.median(trainer.own))
    return (clock.ended - clock.began) / options.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 5), ("rounds", 21), ("batch", 64), ("accumulation", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--weight", default="seq_mean")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    options.own = []
    torch.set_num_threads(options.threads)
    task = corpus(n_train=512, n_eval=0)
    policy = embedded(task, pretrain={"steps": 0})
    rows = task.demonstrations(512, 0)
    seconds_per_step(options.weight, policy, rows, argparse.Namespace(**{**vars(options), "steps": 2, "own": []}))
    ratios, steps = [], []
    for number in range(options.rounds):
        order = (None, options.weight) if number % 2 else (options.weight, None)
        seconds = {weight: seconds_per_step(weight, policy, rows, options) for weight in order}
        ratios.append(seconds[options.weight] / seconds[None])
        steps.append(seconds[None])
        print(f"round {number + 1}: TRL {seconds[None]:.4f} s, weight={options.weight} {seconds[options.weight]:.4f} s a step,"
              f" ratio {ratios[-1]:.4f}", flush=True)  # fmt: skip
    low, _, high = statistics.quantiles(ratios, n=4)
    print(
        f"median ratio {statistics.median(ratios):.4f} (quartiles {low:.4f} to {high:.4f}), {options.rounds} rounds; "
        f"the weights themselves {statistics.median(options.own) * 1e3:.2f} ms, "
        f"{statistics.median(options.own) / statistics.median(steps):.2%} of TRL's step"
    )


if __name__ == "__main__":
    main()
