"""A short training run on rewards that misbehave, or abstain on the same rows; prints what came of it as JSON.

    python misbehaving_run.py MODE FOLDER          MODE: misbehave, abstain, fail, async, stock
Run under torchrun for several processes.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (3, 2)]

import torch
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from rewards.guard import guarded
from rewards.guard.verdict import RewardStop
from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

MODE, FOLDER = sys.argv[1], sys.argv[2]
STEPS, ROWS, GROUP = 3, 32, 4
seen = []


def fate(prompt, completion):
    """About 10 % raise, 5 % give NaN and 3 % hang, by the text alone: the same rows in every mode."""
    place = zlib.crc32(f"{prompt}|{completion}".encode()) % 100
    return "raise" if place < 10 else "nan" if place < 15 else "hang" if place < 18 else "fine"


def letter_a(prompts, completions, **columns):
    values, fates = [], [fate(*pair) for pair in zip(prompts, completions, strict=True)]
    if len(completions) > 1 or MODE == "abstain":
        seen.extend(fates)
    for text, what in zip(completions, fates, strict=True):
        if what == "fine":
            values.append(text.count("a") / 4)
        elif MODE == "abstain":
            values.append(None)
        elif what == "raise" or MODE == "fail":
            raise SystemExit(3) if zlib.crc32(text.encode()) % 2 else RuntimeError("misbehaving")
        elif what == "nan":
            values.append(float("nan"))
        else:
            time.sleep(120)
    return values


async def letter_a_async(prompts, completions, **columns):
    await asyncio.sleep(0)
    return letter_a(prompts, completions)


letter_a_async.__name__ = "letter_a"


def always_fails(prompts, completions, **columns):
    if int(torch.distributed.get_rank() if torch.distributed.is_initialized() else 0) == 0:
        raise RuntimeError("misbehaving")
    return [0.0 for _ in completions]


always_fails.__name__ = "letter_a"


def main():
    set_seed(0)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    arguments = GRPOConfig(
        output_dir=FOLDER,
        per_device_train_batch_size=ROWS // processes,
        num_generations=GROUP,
        max_completion_length=8,
        max_steps=STEPS,
        learning_rate=1e-2,
        loss_type="dr_grpo",
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    func = {"async": letter_a_async, "fail": always_fails}.get(MODE, letter_a)
    reward = guarded(func, timeout=2.0, row_timeout=0.5, max_failed_share=0.5)
    letters = [first + second for first in LETTERS for second in LETTERS]
    kind, extra = (GRPOTrainer, {}) if MODE == "stock" else (CreditGRPOTrainer, {"credit": "dr_grpo"})
    trainer = kind(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        reward_funcs=[reward],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": letters}),
        **extra,
    )
    started, stopped = time.monotonic(), None
    try:
        trainer.train()
    except RewardStop as stop:
        stopped = str(stop)
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    rank = trainer.accelerator.process_index
    record = {
        "digest": digest.hexdigest(),
        "failed": [row["rewards/letter_a/failed"] for row in trainer.state.log_history if "reward" in row],
        "reward": [row["reward"] for row in trainer.state.log_history if "reward" in row],
        "counts": {
            kind: getattr(reward.counts, kind) for kind in ("rows", "exception", "not_finite", "timeout", "abstained")
        },
        "fates": {what: seen.count(what) for what in ("raise", "nan", "hang", "fine")},
        "stopped": stopped,
        "seconds": time.monotonic() - started,
    }
    Path(FOLDER, f"record{rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
