"""The embedded policy: a closed-vocabulary tokenizer and a small decoder, built on this machine, no hub needed.

It is saved in Hugging Face's layout, so the folder also serves as `model=hf model.name=<folder>`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tasks.base import Row, Task
from tasks.environments.dialogue import UNKNOWN, Dialogue
from trainers.model.bars import without_bars
from trainers.model.policy import Policy
from trainers.model.prompts import chat_text
from trainers.model.warm_start import WarmStart, build_once, cache_folder, constant_seed, pretrain_settings, warm_start

logger = logging.getLogger(__name__)

BUILD_VERSION = (
    1  # raise it when this file or trainers/model/warm_start.py would build another model from the same settings
)
EOS = "<eos>"  # also the padding: a pad token of its own could be sampled, and would vanish in decoding
POSITIONS = ("rope", "learned")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def embedded(
    task: Task,
    *,
    hidden: int = 96,
    layers: int = 3,
    heads: int = 4,
    intermediate: int = 192,
    position: str = "rope",
    max_positions: int | None = None,
    initializer_range: float = 0.05,
    pretrain: WarmStart | Mapping | None = None,
    cache_dir: str | Path | None = None,
) -> Policy:
    """A small float32 decoder for `task`, warm-started on its demonstrations, from the cache when it is there.

    The same arguments give the same weights whatever the run's seed, and the global random states are left as they
    were found, so that a run with a cold cache and one with a warm cache are the same run.

    Args:
        task: its `vocabulary` becomes the tokenizer (None: bytes), its `demonstrations` the warm start (None: no warm
            start, with a warning).
        hidden: width; the embeddings are tied.
        layers, heads: of the decoder.
        intermediate: width of the layer inside of a block.
        position: "rope" (Llama type) or "learned" (GPT-2 type, absolute positions). TRL left-pads prompts and passes
            no positions, so "learned" is only right when all prompts have one length, which is checked.
        max_positions: longest text in tokens. None: 2048 for rope; for learned, the prompt plus the task's
            `max_completion_length` (256 if it names none).
        initializer_range: standard deviation of the first weights.
        pretrain: the warm start on the task's demonstrations; None: as `WarmStart` says.
        cache_dir: where models are kept that were built; None: $APPORTION_CACHE, else the user's cache folder.

    Raises:
        ValueError: sizes that do not fit, or a task text that the vocabulary cannot spell.
    """
    settings = pretrain_settings(pretrain)
    tokenizer, config = tokenizer_and_config(
        task,
        hidden=hidden,
        layers=layers,
        heads=heads,
        intermediate=intermediate,
        position=position,
        max_positions=max_positions,
        initializer_range=initializer_range,
    )
    demonstrations = [
        {"prompt": _plain(row["prompt"], tokenizer), "completion": row["completion"]}
        for row in (task.demonstrations(settings.steps * settings.batch, settings.seed) if task.demonstrations else [])
    ]
    if not task.demonstrations:
        logger.warning(
            "task %s has no demonstrations: the embedded model starts from random weights. It will hardly ever earn a "
            "reward; use model=hf model.name=... for a trained model.",
            task.name,
        )

    def build(folder: Path) -> None:
        check_spelling(tokenizer, (row["prompt"] + row["completion"] for row in demonstrations), "demonstration")
        model = initial_model(config, settings.seed)
        if task.dialogue is not None:  # a call ends the turn, too
            ends = tokenizer.convert_tokens_to_ids([EOS, *task.dialogue.calls])
            model.generation_config.eos_token_id = ends
        if demonstrations:
            warm_start(model, tokenizer, demonstrations, settings, label=f"warm start on {task.name}")
        save(model, tokenizer, folder)

    key = build_key(task.name, tokenizer, config, settings, demonstrations)
    folder = cache_folder(cache_dir) / "embedded" / f"{task.name}-{key}"
    with constant_seed(), without_bars():
        return load(build_once(folder, build))


def tokenizer_and_config(
    task: Task, *, hidden: int, heads: int, position: str, max_positions: int | None, **sizes
) -> tuple[PreTrainedTokenizerFast, PretrainedConfig]:
    """What the model of `task` is built from, before there is one. Arguments and errors as `embedded`; sizes: its others."""
    if position not in POSITIONS:
        raise ValueError(f"model.position={position}: choose one of {', '.join(POSITIONS)}.")
    if hidden % heads or (position == "rope" and (hidden // heads) % 2):
        raise ValueError(f"model.hidden={hidden} must be model.heads={heads} times an even number.")
    if task.dialogue is None and (task.tools or task.environment is not None):
        raise ValueError(
            f"model=embedded cannot call tools, and task {task.name} needs it: its plain chat template renders no calls. Use "
            "model=hf model.name=... with a model that was trained to call tools (Qwen/Qwen3-0.6B), or a task with a dialogue of "
            "its own (task=errands)."
        )
    tokenizer = byte_tokenizer() if task.vocabulary is None else closed_tokenizer(task.vocabulary, task.dialogue)
    prompts = [_plain(row["prompt"], tokenizer) for row in (*task.train, *task.evaluation)]
    check_spelling(tokenizer, prompts, "prompt")
    longest = _longest_prompt(tokenizer, prompts, position) + (task.max_completion_length or 256)
    max_positions = max_positions or (2048 if position == "rope" else longest)
    config = decoder_config(
        tokenizer, hidden=hidden, heads=heads, position=position, max_positions=max_positions, **sizes
    )
    return tokenizer, config


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Hugging Face's layout, written by whichever process calls; `save_pretrained` of a model writes on rank 0 only."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}  # tied ones once
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def load(folder: Path) -> Policy:
    """The policy that `build` left in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return Policy(model=model, tokenizer=tokenizer)


def closed_tokenizer(vocabulary: Iterable[str], dialogue: Dialogue | None = None) -> PreTrainedTokenizerFast:
    """One id per entry of `vocabulary` (longest match first), plus end of text, and no unknown token but a dialogue's, whose
    templates TRL tries with words of its own.

    Decoding joins the pieces with nothing between, so every text made of vocabulary entries comes back exactly.

    Raises:
        ValueError: empty or doubled entries, or one that is a special token.
    """
    words = list(vocabulary)
    if not words or len(set(words)) < len(words) or {"", EOS} & set(words):
        raise ValueError(f"a vocabulary needs distinct, non-empty entries other than {EOS}, got {words}.")
    unknown = {} if dialogue is None else {"unk_token": UNKNOWN}
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate([EOS, *words])}, **unknown))
    pattern = "|".join(_escape(word) for word in sorted(words, key=len, reverse=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    core.decoder = decoders.Fuse()
    if dialogue is None:
        return _fast(core)
    tokenizer = _fast(core, unk_token=UNKNOWN)
    tokenizer.chat_template, tokenizer.response_template = dialogue.chat_template, dialogue.response_template
    return tokenizer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One id per byte of UTF-8, plus end of text: any text, exactly. With a plain chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({word: index for index, word in enumerate([EOS, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = _fast(core)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def check_spelling(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], what: str) -> None:
    """Raises ValueError for the first text that does not survive encoding and decoding."""
    texts = list(dict.fromkeys(texts))
    try:
        spelt = tokenizer.batch_decode(tokenizer(texts)["input_ids"]) if texts else []
    except Exception as error:  # tokenizers raises a bare Exception where a piece has no id
        if "Missing [UNK]" not in str(error):
            raise
        spelt = [_spelt(tokenizer, text) for text in texts]
    for text, back in zip(texts, spelt, strict=True):
        if back != text:
            raise ValueError(
                f"the task's vocabulary cannot spell the {what} {text!r:.200}; add the missing pieces to "
                "Task.vocabulary, or set it to None for a byte tokenizer."
            )


def decoder_config(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int,
    layers: int,
    heads: int,
    intermediate: int,
    position: str,
    max_positions: int,
    initializer_range: float,
) -> PretrainedConfig:
    """The model configuration: Llama type for "rope", GPT-2 type without dropout for "learned"."""
    shared = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": True,
        "initializer_range": initializer_range,
        "dtype": "float32",
    }
    if position == "rope":
        return LlamaConfig(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=max_positions,
            **shared,
        )
    return GPT2Config(
        n_embd=hidden,
        n_inner=intermediate,
        n_layer=layers,
        n_head=heads,
        n_positions=max_positions,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **shared,
    )


def initial_model(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """Random float32 weights from `seed`; draws from torch's global generator, see `constant_seed`.

    By the class itself, not `from_config`, which under DeepSpeed ZeRO-3 would deal the weights out over all processes.
    """
    torch.manual_seed(seed)
    return (LlamaForCausalLM if config.model_type == "llama" else GPT2LMHeadModel)(config).float()


def build_key(
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    config: PretrainedConfig,
    settings: WarmStart,
    demonstrations: list[Row],
) -> str:
    """20 hex digits over all that the weights depend on: every demonstration, the tokens, the model, the warm start,
    the libraries up to their minor version, and this code (`BUILD_VERSION`)."""
    skipped = {"transformers_version", "_name_or_path"}
    facts = {
        "version": BUILD_VERSION,
        "task": name,
        "tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()),
        "chat_template": tokenizer.chat_template,
        "config": {key: value for key, value in config.to_dict().items() if key not in skipped},
        "pretrain": settings.facts() if demonstrations else {"seed": settings.seed},
        "libraries": {lib.__name__: ".".join(lib.__version__.split(".")[:2]) for lib in (torch, transformers)},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for row in demonstrations:
        digest.update(json.dumps([row["prompt"], row["completion"]]).encode())
    return digest.hexdigest()[:20]


def _fast(core: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **special,
        pad_token=EOS,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _escape(word: str) -> str:
    """`word` for the tokenizers library's regular expressions (Oniguruma)."""
    return "".join(c if c.isalnum() or ord(c) > 127 or c in " \n\t" else "\\" + c for c in word)


def _spelt(tokenizer: PreTrainedTokenizerFast, text: str) -> str | None:
    try:
        return tokenizer.decode(tokenizer(text)["input_ids"])
    except Exception:
        return None


def _plain(prompt: str | list[Row], tokenizer: PreTrainedTokenizerFast) -> str:
    if isinstance(prompt, str):
        return prompt
    if tokenizer.chat_template is None:
        raise ValueError("a task with a vocabulary takes plain prompts, not chat messages.")
    return chat_text(prompt, tokenizer)


def _longest_prompt(tokenizer: PreTrainedTokenizerFast, prompts: list[str], position: str) -> int:
    lengths = {len(ids) for ids in tokenizer(list(dict.fromkeys(prompts)))["input_ids"]}
    if position == "learned" and len(lengths) > 1:
        raise ValueError(
            f"model.position=learned needs prompts of one length, got {min(lengths)} to {max(lengths)} tokens: TRL "
            "pads prompts on the left and passes no positions. Use model.position=rope."
        )
    return math.ceil(max(lengths) / 8) * 8
