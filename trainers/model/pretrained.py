"""A policy from the Hugging Face hub or a local folder, with messages that say what is missing."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from configs.compose import CONFIG_DIR
from tasks.base import Task
from trainers.model.adapters import base_of, commit_of, fit_embeddings, with_adapter
from trainers.model.foreign_code import UNSAFE_WEIGHTS, check_config, unsafe
from trainers.model.lengths import check_room
from trainers.model.policy import Policy
from trainers.model.prompts import prompt_ids
from trainers.model.quantized import four_bit, refuse_frozen
from trainers.model.tool_calls import check_tool_calls

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
# What `peft: lora` stands for.
LORA: dict[str, Any] = yaml.safe_load((CONFIG_DIR / "model" / "peft" / "lora.yaml").read_text(encoding="utf-8"))
LORA.pop("_trainer_")  # configs/command_line/of_model.py


def hf(
    task: Task,
    *,
    name: str,
    revision: str | None = None,
    dtype: str | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    peft: str | Mapping | Any | None = None,
    merge_adapter: bool = False,
    load_in_4bit: bool = False,
) -> Policy:
    """A causal language model and its tokenizer; nothing is loaded before the cheap checks have passed.

    Args:
        name: hub id ("Qwen/Qwen2.5-0.5B-Instruct") or folder; a folder with an adapter is loaded with its base model, and
            the adapter is what is trained on.
        revision: branch, tag or commit on the hub.
        dtype: of the weights: auto (as they were saved), float32, bfloat16 or float16. None: float32 to train all of them,
            as they were saved under an adapter and where nothing is trained. Either way a GPU computes in bfloat16
            (trainer.bf16).
        attn_implementation: eager, sdpa, flash_attention_2, as in `from_pretrained`; None: the library's choice.
        trust_remote_code: lets the model's repository run its own code here: only for repositories whose code you have read.
        chat_template: a Jinja file, put in the place of the tokenizer's own.
        peft: None, "lora" (the defaults of model/peft=lora), fields of `peft.LoraConfig`, or a `peft.PeftConfig`: a new
            adapter. An adapter that the folder holds is merged first.
        merge_adapter: for a folder with an adapter: adds it to the weights and trains them all; False: trains the adapter on.
        load_in_4bit: keeps the weights under an adapter in 4 bits (needs model/peft=lora or a folder with an adapter, and the
            package bitsandbytes).

    Raises:
        ValueError: whatever keeps this model from being trained on this task, with the remedy.
    """
    folder = _local_folder(name)
    dtype = dtype or "auto"
    if dtype not in DTYPES:
        raise ValueError(f"model.dtype={dtype}: choose one of {', '.join(DTYPES)}.{_near(dtype, DTYPES)}")
    adapter = adapter_config(peft)
    base = base_of(folder)
    if merge_adapter and base is None:
        raise ValueError(f"model.merge_adapter=true: model.name={name} is no folder with an adapter. Leave it out.")
    origin = base.name if base else str(folder or name)
    local = Path(origin).is_dir()
    revision = revision or (base.revision if base else None)
    source = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": local}
    config = _asked(f"{name} (adapter of {origin})" if base else name, AutoConfig.from_pretrained, origin, **source)
    merge = base is not None and (merge_adapter or adapter is not None)
    options: dict[str, Any] = {"attn_implementation": attn_implementation} if attn_implementation else {}
    trains_adapter = adapter is not None or (base is not None and not merge_adapter)
    refuse_frozen(name, config, trains_adapter)
    if load_in_4bit:
        options["quantization_config"] = four_bit(
            name, config, DTYPES[dtype], trains_adapter=trains_adapter, merges=merge
        )
    if attn_implementation is None or "/" in attn_implementation:
        check_config(name, config, attn_implementation, trust_remote_code)
    tokenizer = _tokenizer(name, str(folder) if base and _has_tokenizer(folder) else origin, source)
    if chat_template is not None:
        tokenizer.chat_template = _template(chat_template)
    check_tool_calls(task, tokenizer, name)
    check_room(task, check_prompts(task, tokenizer, name), config, f"model.name={name}")
    model = _asked(
        name, AutoModelForCausalLM.from_pretrained, origin, config=config, dtype=DTYPES[dtype], **options, **source
    )
    if base:
        fit_embeddings(model, tokenizer)
        model = with_adapter(name, model, folder, base, merge=merge)
    _check_pair(name, model, tokenizer)
    commit = commit_of(origin, revision)
    if adapter is not None and not merge:
        adapter.revision = commit
    return Policy(
        model=model,
        tokenizer=tokenizer,
        peft_config=adapter,
        unsaved=merge,
        loaded_from=(str(folder), origin) if base else (origin,),
        revision=commit,
    )


def adapter_config(peft: str | Mapping | Any | None) -> Any | None:
    """`model.peft` as a `peft.PeftConfig`, or None.

    Raises:
        ValueError: no such kind, an unknown field (with the nearest right one), or peft is not installed.
    """
    if peft is None or (isinstance(peft, Mapping) and not peft):
        return None
    try:
        from peft import LoraConfig, PeftConfig
    except ImportError:
        raise ValueError("model.peft needs the package peft: pip install peft") from None
    if isinstance(peft, PeftConfig):
        return _reloadable(peft)
    if isinstance(peft, str):
        if peft.lower() != "lora":
            raise ValueError(
                f"model.peft={peft}: there is `lora`; other kinds by class in a YAML, see docs/running/models.md."
            )
        peft = LORA
    if not isinstance(peft, Mapping):
        raise ValueError(f"model.peft must be null, lora or fields of peft.LoraConfig, got {peft!r}.")
    known = inspect.signature(LoraConfig).parameters
    for key in peft:
        if key not in known:
            raise ValueError(f"model.peft.{key} is no field of peft.LoraConfig.{_near(key, known)}")
    settings = {key: list(value) if _is_list(value) else value for key, value in peft.items()}
    return _reloadable(LoraConfig(**{"task_type": "CAUSAL_LM", **settings}))


def _reloadable(adapter: Any) -> Any:
    """Raises ValueError for an adapter whose folder would not load to the model that was trained: its first weights are drawn
    again at every loading, or need data, and change the weights of the base."""
    init = getattr(adapter, "init_lora_weights", None)
    if isinstance(init, str) and (init.startswith("pissa_niter") or init in ("corda", "loftq", "lora_ga")):
        raise ValueError(
            f"model.peft.init_lora_weights={init} changes the base in a way that loading the saved adapter does not repeat. Use "
            "pissa, olora or true."
        )
    return adapter


def check_prompts(task: Task, tokenizer: PreTrainedTokenizerBase, name: str) -> list[int]:
    """Every prompt can be turned into tokens, chat prompts by a chat template; else ValueError with the remedy. Returns the
    tokens of each, those of the training rows first."""
    lengths = []
    for row in (*task.train, *task.evaluation):
        prompt = row["prompt"]
        if not isinstance(prompt, str) and tokenizer.chat_template is None:
            raise ValueError(
                f"task {task.name} has chat prompts, but the tokenizer of model.name={name} has no chat template. "
                "Take an instruction-tuned model, give a template (model.chat_template=my_template.jinja), or use "
                "plain prompts (task.chat=false)."
            )
        try:
            ids = prompt_ids(prompt, tokenizer)
        except Exception as error:  # a template's own refusal, or a closed vocabulary without this text
            raise ValueError(
                f"the tokenizer of model.name={name} cannot encode the prompt {prompt!r:.200}: {error}"
            ) from error
        if not ids:
            raise ValueError(f"task {task.name}: the prompt {prompt!r:.100} has no tokens under model.name={name}.")
        lengths.append(len(ids))
    return lengths


def _local_folder(name: str) -> Path | None:
    """The folder that `name` names, checked, or None for a hub id."""
    folder = Path(name).expanduser()
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            there = [str(child) for child in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise ValueError(f"model.name={name}: no such folder (looked in {Path.cwd()}).{_near(str(folder), there)}")
        return None
    if folder.is_file():
        raise ValueError(f"model.name={name} is a file; name the folder that holds config.json and the weights.")
    files = {child.name for child in folder.iterdir()}
    if "config.json" not in files:
        if "adapter_config.json" in files:
            if base_of(folder) is None:
                raise ValueError(
                    f"model.name={name} is an adapter, and its adapter_config.json does not say of which model: write it "
                    "there as base_model_name_or_path."
                )
            return folder.absolute()
        inner = sorted(str(child.parent) for child in folder.glob("*/config.json"))
        hint = f" Did you mean {inner[-1]}?" if inner else ""
        raise ValueError(f"model.name={name}: the folder has no config.json, so it is no saved model.{hint}")
    if not _has_tokenizer(folder):
        raise ValueError(
            f"model.name={name}: the folder has no tokenizer. Save the one the model was trained with beside it: "
            f'AutoTokenizer.from_pretrained(...).save_pretrained("{name}").'
        )
    return folder.absolute()  # it is written down as an adapter's base, and is to be found from anywhere


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in TOKENIZER_FILES)


def _tokenizer(name: str, origin: str, source: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    tokenizer = _asked(name, AutoTokenizer.from_pretrained, origin, padding_side="left", **source)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"model.name={name}: the tokenizer has no end-of-text token, so no completion could end. Set `eos_token` "
            "in its tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _asked(name: str, load, origin: str, **options: Any) -> Any:
    """`load(origin, **options)`; the ways in which that usually fails become a ValueError with the remedy."""
    try:
        return load(origin, **options)
    except ImportError as error:
        raise ValueError(f"model.name={name} needs a package that is not installed: {_first(error)}") from error
    except UNSAFE_WEIGHTS as error:
        raise ValueError(unsafe(name)) from error
    except (OSError, ValueError, KeyError) as error:
        text = str(error)
        if "trust_remote_code" in text:
            raise ValueError(
                f"model.name={name} brings its own code. Read it, and if you trust it: model.trust_remote_code=true"
            ) from error
        if "for this kind of AutoModel" in text:
            raise ValueError(f"model.name={name} is no causal language model: {_first(error)}") from error
        if isinstance(error, OSError) and not options.get("local_files_only"):
            raise ValueError(
                f"model.name={name}: neither a folder here nor a model that can be had from the hub. Check the "
                "spelling; for a private or gated model, `hf auth login`; without a network, give a local folder. "
                f"({_first(error)})"
            ) from error
        raise ValueError(f"model.name={name} cannot be loaded: {_first(error)}") from error


def _check_pair(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(
            f"model.name={name}: the tokenizer has {len(tokenizer)} tokens, the model only {rows} embeddings. They "
            "do not belong together, or `model.resize_token_embeddings` was not saved."
        )


def _template(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"model.chat_template: no file {file} (looked in {Path.cwd()}).")
    return file.read_text(encoding="utf-8")


def _near(word: str, choices) -> str:
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean `{near[0]}`?" if near else ""


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _is_list(value: Any) -> bool:
    """Also OmegaConf's ListConfig, which LoraConfig would not take."""
    return hasattr(value, "__iter__") and not isinstance(value, (str, Mapping))
