"""The model of a prepared run, counted without its weights, and what a process of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config
from trl.trainer import utils as utils_of_trl

from credit.critic.spec import SeparateSpec
from credit.strategy import Strategy
from tasks.about import prompt_length
from trainers.command.job import GRPOJob, Job
from trainers.model.embedded import tokenizer_and_config
from trainers.model.lengths import check_room
from trainers.model.precision import coarse_weights
from trainers.model.pretrained import DTYPES, TOKENIZER_FILES, adapter_config, check_prompts
from trainers.model.prompts import prompt_ids
from trainers.model.tool_calls import check_tool_calls
from trainers.plan.length import longest_text
from trainers.plan.machines import Machines
from trainers.plan.memory import Load, Memory, memory_of
from trainers.plan.shape import ModelSizes, shape_of, shape_of_hf

MAKES_TILES = hasattr(utils_of_trl, "add_fused_lm_head")  # then logits are never whole
HF, EMBEDDED = "trainers.model.pretrained.hf", "trainers.model.embedded.embedded"
# (hidden, intermediate, layers, heads, key-value heads, vocabulary, tied) of the models that recipes name, so that these can be
# counted without a network.
KNOWN = {
    "Qwen/Qwen2.5-0.5B-Instruct": (896, 4864, 24, 14, 2, 151936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": (1536, 8960, 28, 12, 2, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": (3584, 18944, 28, 28, 4, 152064, False),
}
# Tokens of a prompt where neither data nor tokenizer are there; letters of a token where only the tokenizer is missing.
PROMPT, LETTERS = 256, 3
_UNLIMITED = 1024  # tokens of a text, where nothing limits them
_MOST_PROMPTS = 2000


@dataclass(frozen=True)
class Forecast:
    """Args:
    shape, memory: None where the model cannot be counted.
    name: of the model; dtype: of the weights that are trained.
    prompt: tokens of the longest prompt; notes: what was assumed.
    """

    name: str
    shape: ModelSizes | None = None
    memory: Memory | None = None
    dtype: str = ""
    prompt: int = PROMPT
    notes: tuple[str, ...] = ()


def forecast_of(job: Job, machines: Machines) -> Forecast:
    """Raises:
    ValueError: the tokenizer is there and cannot encode the prompts.
    """
    node = job.command.config.model
    name = str(node.get("name") or job.command.choices["model"])
    target = node.get("_target_")
    notes: list[str] = []
    has_rows = getattr(job, "has_rows", True)
    if target == EMBEDDED:
        sizes = ("hidden", "layers", "heads", "intermediate", "position", "max_positions", "initializer_range")
        tokenizer, config = tokenizer_and_config(job.task, **{key: node[key] for key in sizes})
        shape = shape_of(config, torch.float32)
    elif target == HF:
        if not Path(name).expanduser().exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
            raise ValueError(f"model.name={name}: no such folder (looked in {Path.cwd()}).")
        tokenizer = _tokenizer(name, node)
        shape = _shape_of_hf(name, node, notes)
        if tokenizer is None:
            is_folder = Path(name).expanduser().is_dir()
            notes.append(f"{name} has no tokenizer{': a run would be refused' if is_folder else ' here'}")
        elif has_rows:
            _check_prompts(job, tokenizer, shape, name)
    else:
        return Forecast(name, notes=(f"`{target}` builds the model: it is counted once it is there",))
    if shape is None:
        return Forecast(name, notes=tuple(notes))
    prompt = _longest_prompt(job.task.train if has_rows else [], tokenizer, notes)
    load = load_of_grpo if isinstance(job, GRPOJob) else load_of_texts
    has_evaluation = bool(job.task.evaluation) or not has_rows
    load = load(job.args, job.command.config, machines, prompt, has_evaluation, job.has_reference)
    if not isinstance(job, GRPOJob):
        load = replace(load, completion=longest_text(job.args, shape.positions) or _UNLIMITED)
    memory = memory_of(shape, load)
    if isinstance(job.strategy.critic, SeparateSpec):
        memory.stays["critic"] = 16.0 * shape.parameters  # float32, a gradient and two moments of each
    memory.stays.update(copies_of(job.strategy, shape))
    size = shape.trained_bytes / max(1, shape.trained)
    dtype = "float32" if size == 4 else next(key for key, one in DTYPES.items() if one == _halves(node))
    if not shape.is_adapted and machines.sharding[:4] != "zero" and size == 2:
        notes.append(coarse_weights({_halves(node)}, job.args.learning_rate) or "")
    return Forecast(name, shape, memory, dtype, prompt, tuple(notes))


def copies_of(strategy: Strategy, shape: ModelSizes) -> dict[str, float]:
    """Bytes of the copies of the policy that providers of signals keep, and of AdamW's moments of those that learn."""
    keep = [(getattr(provider, "copies", 0), getattr(provider, "learns", False)) for provider, _ in strategy.makers()]
    copies, learning = sum(count for count, _ in keep), sum(count for count, learns in keep if learns)
    return {"copies": copies * shape.weight_bytes + 2.0 * learning * shape.trained_bytes} if copies else {}


def _check_prompts(job: Job, tokenizer: Any, shape: ModelSizes | None, name: str) -> None:
    """As the run does before it loads the weights."""
    check_tool_calls(job.task, tokenizer, name)
    lengths = check_prompts(job.task, tokenizer, name)
    task = replace(job.task, room=job.args.max_completion_length or 0) if isinstance(job, GRPOJob) else job.task
    positions = SimpleNamespace(max_position_embeddings=shape.positions if shape else None)
    check_room(task, lengths, positions, f"model.name={name}")


def _halves(node: Mapping[str, Any]) -> torch.dtype:
    return torch.float16 if node.get("dtype") == "float16" else torch.bfloat16


def _shape_of_hf(name: str, node: Mapping[str, Any], notes: list[str]) -> ModelSizes | None:
    try:
        return shape_of_hf(node)
    except (OSError, ValueError, KeyError) as error:
        if name in KNOWN and not Path(name).exists():
            notes.append(f"{name} cannot be had here; its sizes are those that this package knows")
            return _known(name, node)
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        notes.append(f"the model cannot be counted: {first}")
        return None


def _known(name: str, node: Mapping[str, Any]) -> ModelSizes:
    adapter, asked = adapter_config(node.get("peft")), node.get("dtype")
    dtype = torch.bfloat16 if asked == "auto" or (asked is None and adapter is not None) else DTYPES[asked or "float32"]
    return shape_of(config_of_known(name), dtype, adapter, in_4_bits=bool(node.get("load_in_4bit")))


def config_of_known(name: str) -> Qwen2Config:
    """The configuration of a model of `KNOWN`."""
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = KNOWN[name]
    return Qwen2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        dtype="bfloat16",
    )


def _tokenizer(name: str, node: Mapping[str, Any]) -> Any:
    folder = Path(name).expanduser()
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder) if folder.is_dir() else name,
            revision=node.get("revision"),
            trust_remote_code=bool(node.get("trust_remote_code")),
            local_files_only=folder.is_dir(),
        )
    except (OSError, ValueError, KeyError, ImportError):
        return None
    if node.get("chat_template"):
        tokenizer.chat_template = Path(node["chat_template"]).expanduser().read_text(encoding="utf-8")
    return tokenizer


def _longest_prompt(rows: list, tokenizer: Any, notes: list[str]) -> int:
    prompts = [row["prompt"] for row in rows[:_MOST_PROMPTS]]
    if tokenizer is not None and prompts:
        return max(len(prompt_ids(prompt, tokenizer)) for prompt in prompts)
    if prompts:
        tokens = max(1, max(map(prompt_length, prompts)) // LETTERS)
        notes.append(f"the longest prompt is taken for {tokens} tokens, one for {LETTERS} letters")
        return tokens
    notes.append(f"prompts are taken for {PROMPT} tokens")
    return PROMPT


def load_of_grpo(
    args: Any, config: Any, machines: Machines, prompt: int, has_evaluation: bool = True, has_reference: bool = False
) -> Load:
    """args: a `trl.GRPOConfig`; config: the composed configuration; prompt: tokens of the longest."""
    colocated = args.use_vllm and args.vllm_mode == "colocate"
    return Load(
        prompt=prompt,
        completion=args.max_completion_length,
        evaluated=args.per_device_eval_batch_size if has_evaluation else 0,
        generated=0 if args.use_vllm else args.generation_batch_size // args.world_size,
        vllm=args.vllm_gpu_memory_utilization if colocated else 0.0,
        vllm_sleeps=bool(colocated and args.vllm_enable_sleep_mode),
        **_common(args, config, machines, has_reference),
    )


def load_of_texts(
    args: Any, config: Any, machines: Machines, prompt: int, has_evaluation: bool = True, has_reference: bool = False
) -> Load:
    """args: a `trl.SFTConfig`. Texts are taken for as long as `max_length` lets them be, prompt included."""
    evaluated = args.per_device_eval_batch_size if has_evaluation else 0
    common = _common(args, config, machines, has_reference)
    return Load(prompt=0, completion=args.max_length or _UNLIMITED, evaluated=evaluated, **common)


def _common(args: Any, config: Any, machines: Machines, has_reference: bool) -> dict[str, Any]:
    return {
        "rows": args.per_device_train_batch_size,
        # On a machine without a GPU a run would compute in float32; the plan is for one that has it.
        "is_mixed": bool(args.bf16 or args.fp16 or config.trainer.bf16 is None),
        "is_checkpointed": bool(args.gradient_checkpointing),
        "makes_tiles": MAKES_TILES,
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "has_reference": has_reference,
        "ranks": machines.ranks,
        "sharding": machines.sharding,
    }
