"""What a user of TRL does when he swaps `GRPOTrainer` for ours: one setting, run with either class, and what came of it."""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}{% if think is defined %}h{% endif %}"
LORA = partial(LoraConfig, r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
FIELDS = {field.name for field in dataclasses.fields(GRPOConfig)}
TIMES = ("time", "runtime", "per_second")


def lengths(completions, **columns):
    return [float(len(_text(completion))) for completion in completions]


def letters(completions, **columns):
    return [float(len(set(_text(completion)))) for completion in completions]


def _text(completion) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


def chat_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def save_policy(folder: Path, tokenizer=None, **config) -> str:
    """A model folder as on the hub, tokenizer included."""
    tiny_model(**config).save_pretrained(folder)
    (tokenizer or chat_tokenizer()).save_pretrained(folder)
    return str(folder)


def save_judge(folder: Path, seed: int = 0, **config) -> str:
    """A reward model folder, with a tokenizer of its own."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = (
        dict(vocab_size=11, max_position_embeddings=64, pad_token_id=0, num_labels=1, initializer_range=0.5) | config
    )
    LlamaForSequenceClassification(LlamaConfig(**sizes, **config)).float().save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return str(folder)


def prompts(chat: bool = False, count: int = 12, **columns) -> Dataset:
    texts = [a + b for a in LETTERS for b in LETTERS][:count]
    rows = [[{"role": "user", "content": text}] for text in texts] if chat else texts
    return Dataset.from_dict({"prompt": rows} | columns)


def config(folder: Path, **options) -> GRPOConfig:
    settings = dict(
        output_dir=str(folder),
        learning_rate=0.1,
        per_device_train_batch_size=3,
        num_generations=3,
        max_completion_length=6,
        max_steps=2,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    return GRPOConfig(**(settings | options))


class late:
    """Marks a keyword that each trainer needs afresh: models are trained in place."""

    def __init__(self, make):
        self.make = make


def build(trainer_class, folder: Path, policy: str, args: dict[str, Any] | None = None, **keywords):
    """A trainer of either class, everything random in the same state."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    defaults = dict(model=policy, reward_funcs=lengths, train_dataset=prompts())
    made = {name: value.make() if isinstance(value, late) else value for name, value in keywords.items()}
    return trainer_class(**(defaults | {"args": config(folder, **(args or {}))} | made))


def outcome(trainer_class, folder: Path, policy: str, act=lambda trainer: trainer.train(), **case) -> dict[str, Any]:
    """Parameters, logs and exception of one run."""
    result: dict[str, Any] = {"error": None}
    try:
        trainer = build(trainer_class, folder, policy, **case)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        act(trainer)
    except Exception as error:
        return result | {"error": (type(error), str(error))}
    after = {name: p.detach() for name, p in trainer.model.named_parameters()}
    logs = [{k: v for k, v in row.items() if not any(t in k for t in TIMES)} for row in trainer.state.log_history]
    moved = any(not torch.equal(p, before[name]) for name, p in after.items())
    return result | {"parameters": after, "logs": logs, "moved": moved, "trainer": trainer}


def both(folder: Path, policy: str, **case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stock TRL's outcome and ours, without `credit`."""
    stock = outcome(GRPOTrainer, folder / "stock", policy, **case)
    return stock, outcome(CreditGRPOTrainer, folder / "ours", policy, **case)


def assert_same(stock: dict, ours: dict) -> None:
    """The swapped trainer did to the last bit what stock TRL did: parameters, logs, error."""
    assert stock["error"] == ours["error"]
    if stock["error"] is None:
        assert stock["parameters"].keys() == ours["parameters"].keys()
        assert all(torch.equal(p, ours["parameters"][name]) for name, p in stock["parameters"].items())
        assert repr(stock["logs"]) == repr(ours["logs"])  # as text, so that NaN is NaN
