"""Model folders in Hugging Face's layout, small enough for any test; and short runs that start from one and write another."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import trl
from peft import AutoPeftModelForCausalLM, PeftModel
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainers.command.cli import compose_command
from trainers.model.embedded import byte_tokenizer, decoder_config, initial_model
from trainers.run.grpo import run_grpo
from trainers.run.likelihood import run_lhts, run_sft

SIZES = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "position": "rope", "max_positions": 256}
TEXTS = ["Q: 2+2? A: 4", "The cat sat on the mat.", "abcabc", "x = 17 and y = 3"]
ROWS = [{"prompt": f"{n}+{n}=", "answer": str(2 * n), "completion": f" {2 * n}."} for n in range(8)]
UNEVEN = "def uneven(completions, **_):\n    return [float(sum(map(ord, text)) % 7) for text in completions]\n"
FEW = ["trainer.max_steps=2", "trainer.save_steps=1", "trainer.use_cpu=true", "trainer.lr_scheduler_type=constant"]
FEW += ["trainer.gradient_accumulation_steps=1"]
LIKELIHOOD = [*FEW, "trainer.per_device_train_batch_size=4", "probe=0", "trainer.learning_rate=0.02"]
GRPO = [*FEW, "trainer.per_device_train_batch_size=4", "trainer.num_generations=2", "trainer.max_completion_length=6"]
VERBS = {
    "sft": (run_sft, "train_sft", LIKELIHOOD),
    "lhts": (run_lhts, "train_lhts", [*LIKELIHOOD, "tau=0.6", "horizon=2", "max_new_tokens=6"]),
    "grpo": (run_grpo, "train_grpo", [*GRPO, "record.every=0", "show=0", "trainer.learning_rate=0.02"]),
}
KINDS = {"full": [], "lora": ["model/peft=lora", "model.peft.r=4"], "merged": ["model.merge_adapter=true"]}


def save_model(folder, tokenizer, seed: int = 0, **sizes):
    """Random weights, and the tokenizer beside them."""
    model = initial_model(decoder_config(tokenizer, **{**SIZES, **sizes}, initializer_range=0.1), seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def call(name: str, **arguments) -> str:
    """A tool call as Qwen3 writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def save_player(folder, calls, seed: int = 0):
    """A model that calls tools: Qwen3's chat template as TRL knows it, each of `calls` one token that ends a turn, and random
    weights that say calls and ends more often than bytes."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens([AddedToken(each, special=False, normalized=False) for each in calls])
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    config = decoder_config(tokenizer, **SIZES | {"max_positions": 2048}, initializer_range=0.1)
    config.tie_word_embeddings = False
    model = initial_model(config, seed)
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", *calls])
    head = torch.zeros_like(model.lm_head.weight)
    head[ends] = torch.randn(len(ends), head.shape[1], generator=torch.Generator().manual_seed(seed))
    model.lm_head.weight.data.copy_(head)
    model.generation_config.update(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(folder):
    """A table of prompts, answers and completions, and beside it a reward that tells texts apart."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "uneven.py").write_text(UNEVEN)
    return folder / "rows.jsonl"


def train_step(step: str, name, rows, run, *more):
    """One step of a chain, "sft-lora", on the model `name`; the folder of the model it has written."""
    verb, kind = step.split("-")
    function, config, overrides = VERBS[verb]
    given = ["model=hf", f"model.name={name}", "task=jsonl", f"task.path={rows}", "task.prompt_column=prompt"]
    given += ["task.completion_column=completion", "task.eval_share=0", f"run_dir={run}", *KINDS[kind]]
    if verb == "grpo" and not any(each.startswith("reward") for each in more):
        given += [f"reward.funcs=[{rows.parent / 'uneven.py'}:uneven]"]
    function(compose_command(config, [*given, *overrides, *more]))
    return run / "model"


@torch.no_grad()
def nll(model, tokenizer) -> float:
    """Nats per token over fixed texts."""
    total, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        logps = model.eval()(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        total -= float(logps.gather(1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    return total / count


def plain_nlls(folder) -> list[float]:
    """The same of a folder as a user of transformers and peft loads it, in every way that its kind allows."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not (folder / "adapter_config.json").exists():
        return [nll(AutoModelForCausalLM.from_pretrained(folder), tokenizer)]
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    adapted = []
    for _ in range(2):
        model = AutoModelForCausalLM.from_pretrained(base)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
        adapted.append(PeftModel.from_pretrained(model, folder))
    ways = [AutoPeftModelForCausalLM.from_pretrained(folder), adapted[0], adapted[1].merge_and_unload()]
    return [nll(model, tokenizer) for model in ways]
