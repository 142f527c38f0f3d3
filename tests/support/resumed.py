"""A run that saves at every step, and what becomes of it from each of its checkpoints.

A checkpoint of an undisturbed run holds what a killed run would have left there, so no process has to be killed: the
run that goes on from it, in a new trainer and another folder, must show what the undisturbed run showed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, SFTConfig

from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.sft import CreditSFTTrainer

# Of a log: what no two runs share, and sums over this life of the process.
_VOLATILE = ("time", "seconds", "runtime", "per_second", "train_loss")

PROMPTS = [a + b for a in LETTERS for b in LETTERS]


# What both kinds of trainer are made with here: a checkpoint and a row of metrics at every step.
EVERY_STEP = dict(
    max_steps=8,
    learning_rate=1e-2,
    bf16=False,
    gradient_checkpointing=False,
    save_strategy="steps",
    save_steps=1,
    logging_steps=1,
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
    seed=3,
)

# Prompts to evaluate on after every step.
HELD_OUT = dict(
    eval_dataset=Dataset.from_dict({"prompt": PROMPTS[20:24]}),
    eval_strategy="steps",
    eval_steps=1,
    per_device_eval_batch_size=8,
    num_generations_eval=2,
)


def vowels(completions, **columns):
    return [sum(text.count(letter) for letter in "ae") / 4 - len(text) / 40 for text in completions]


def grpo(credit="dr_grpo", rows=8, funcs=vowels, callbacks=list, **options):
    """A function of a folder: the trainer, saving at every step. callbacks: makes those of one trainer."""
    settings = dict(
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
    )
    extra = {name: options.pop(name) for name in ("peft_config", "eval_dataset", "refill") if name in options}
    model = options.pop("model", tiny_model)

    def make(folder):
        return CreditGRPOTrainer(
            model=model(),
            reward_funcs=funcs,
            args=GRPOConfig(output_dir=str(folder), **(EVERY_STEP | settings | options)),
            train_dataset=Dataset.from_dict({"prompt": PROMPTS[:rows]}),
            processing_class=tiny_tokenizer(),
            credit=credit,
            callbacks=callbacks(),
            **extra,
        )

    return make


@dataclass
class Life:
    """What one trainer saw: prompts of each step that samples, logs, and the weights at the end."""

    prompts: dict[int, list] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    trainer: Any = None


def live(trainer, checkpoint: Path | None = None) -> Life:
    """Trains to the end, from the start or from a checkpoint."""
    life = Life(trainer=trainer)
    life.prompts = watch_prompts(trainer)
    trainer.add_callback(_KeepLogs(life))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    life.weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    return life


def watch_prompts(trainer) -> dict[int, list]:
    """Filled while it trains: optimiser step (counted from 1) -> rows its micro-batches brought."""
    seen: dict[int, list] = {}
    draw = trainer.get_batch_samples

    def watched(*args, **kwargs):
        batches, items = draw(*args, **kwargs)
        shown = [[_name(row) for row in _rows(batch)] for batch in batches]
        seen[trainer.state.global_step + 1] = shown
        return batches, items

    trainer.get_batch_samples = watched
    return seen


def assert_goes_on(whole: Life, resumed: Life, step: int) -> None:
    """The resumed life from `step` is the rest of the whole one, bit for bit."""
    rest = {at: rows for at, rows in whole.prompts.items() if at > step}
    assert resumed.prompts == rest, f"other rows after step {step}"
    logs = [row for row in whole.logs if row["step"] > step]
    assert resumed.logs == logs, f"other metrics after step {step}"
    differing = [name for name in whole.weights if not torch.equal(whole.weights[name], resumed.weights[name])]
    assert not differing, f"other weights at the end, resumed after step {step}: {differing}"


def goes_on_from_everywhere(make, folder: Path, steps: int, cuts: list[int] | None = None) -> Life:
    """`make(folder)` builds the trainer, which must save at every step. Cuts: default each that was saved."""
    state = PartialState()
    whole = live(make(folder / "whole"))
    assert whole.trainer.state.global_step == steps
    state.wait_for_everyone()
    saved = sorted(int(path.name.split("-")[1]) for path in (folder / "whole").glob("checkpoint-*"))
    before = [step for step in saved if step < steps]
    assert before, "nothing was saved to resume from"
    for step in before if cuts is None else cuts:
        if state.is_main_process:
            shutil.copytree(folder / "whole" / f"checkpoint-{step}", folder / f"cut{step}" / f"checkpoint-{step}")
        state.wait_for_everyone()
        resumed = live(make(folder / f"cut{step}"), folder / f"cut{step}" / f"checkpoint-{step}")
        assert_goes_on(whole, resumed, step)
    return whole


class _KeepLogs(TrainerCallback):
    def __init__(self, life: Life):
        self._life = life

    def on_log(self, args, state, control, logs=None, **kwargs):
        kept = {k: v for k, v in (logs or {}).items() if not any(word in k for word in _VOLATILE)}
        if set(kept) - {"epoch", "total_flos"}:
            self._life.logs.append({"step": state.global_step, **{k: _plain(v) for k, v in kept.items()}})


def _plain(value):
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # NaN is not equal to itself


def sft(trainer_class=CreditSFTTrainer, data=None, **options):
    """The same for likelihood training: texts of unequal lengths, 2 a step."""
    made = {name: options.pop(name) for name in ("weight", "lhts", "eval_dataset") if name in options}
    settings = dict(
        per_device_train_batch_size=2,
        max_length=48,
    )
    texts = [{"prompt": p, "completion": p[::-1] * (1 + i % 5) + "<eos>"} for i, p in enumerate(PROMPTS[:8])]
    data = texts if data is None else data
    if "packing" in options:
        data = [{"text": row["prompt"] + row["completion"]} for row in data]

    def make(folder):
        return trainer_class(
            model=tiny_model(),
            args=SFTConfig(output_dir=str(folder), **(EVERY_STEP | settings | options)),
            train_dataset=Dataset.from_list(data),
            processing_class=tiny_tokenizer(),
            **made,
        )

    return make


def _rows(batch) -> list:
    return batch if isinstance(batch, list) else batch["input_ids"].tolist()


def _name(row) -> Any:
    return row["prompt"] if isinstance(row, dict) else row
