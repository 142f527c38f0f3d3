"""Folders with an adapter: which model each belongs to, and how it is loaded to be trained on or merged."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.model.foreign_code import UNSAFE_WEIGHTS, check_adapter, unsafe
from trainers.model.quantized import is_quantized

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What an adapter by train_lhts.py was trained for; whole models have it in their config.
LHTS_FILE = "lhts.json"
# Beside a run's model/ and checkpoints/: the model it started from, where that stands nowhere else (trainers/run/start.py).
BASE = "base"
# The adapter as it was given, beside the one that is trained on (TRL's name for it).
REFERENCE = "ref"


@dataclass(frozen=True)
class Base:
    """The model that an adapter changes.

    Args:
        name: hub id, or the absolute path of a folder.
        revision: on the hub; None: the default branch.
    """

    name: str
    revision: str | None = None


def base_of(folder: Path | None) -> Base | None:
    """The model that an adapter's folder belongs to; None for a whole model, or if the adapter does not say.

    Raises:
        ValueError: the adapter names a folder that is not there.
    """
    if folder is None or (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        return None
    facts = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    named = facts.get("base_model_name_or_path")
    if not named:
        return None
    return Base(_place_of(named, folder), facts.get("revision"))


def _place_of(named: str, folder: Path) -> str:
    """A run's own base travels with the run, so it is looked for beside the adapter first."""
    path = Path(named).expanduser()
    beside = [place for place in (folder.parent / BASE, folder.parent.parent / BASE) if place.is_dir()]
    if path.name == BASE and beside:
        return str(beside[0])
    if path.is_dir():
        return str(path.absolute())
    if (folder / path).is_dir():
        return str((folder / path).resolve())
    if path.is_absolute() or named.startswith((".", "~")) or named.count("/") > 1:
        raise ValueError(
            f"model.name={folder} is an adapter of {named}, and no such folder is there. If that model was moved, write its "
            f"new place into {folder / 'adapter_config.json'}, as base_model_name_or_path."
        )
    return named


def with_adapter(name: str, model: PreTrainedModel, folder: Path, base: Base, *, merge: bool) -> Any:
    """The base model with the adapter of `folder`, and what train_lhts.py left beside it.

    merge=False: a `peft.PeftModel` whose adapter is trained on. merge=True: a plain model with the adapter added to its
    weights, all of which can be trained.

    Raises:
        ValueError: peft is missing, this kind of adapter cannot be merged, or its files name code to run.
    """
    try:
        from peft import PeftModel
    except ImportError:
        raise ValueError(f"model.name={name} is an adapter, which needs the package peft: pip install peft") from None
    check_adapter(name, folder)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=not merge)
    except UNSAFE_WEIGHTS as error:
        raise ValueError(unsafe(name)) from error
    if (folder / LHTS_FILE).is_file():
        model.config.lhts = json.loads((folder / LHTS_FILE).read_text(encoding="utf-8"))
    if not merge:
        config = adapted.peft_config["default"]
        config.base_model_name_or_path, config.revision = base.name, base.revision
        return adapted
    return merged(adapted, name)


def merged(adapted: Any, name: str = "") -> PreTrainedModel:
    """A `peft.PeftModel` as one plain model.

    Raises:
        ValueError: this kind of adapter is no change of weights (prompt tuning and the like).
    """
    try:
        whole = adapted.merge_and_unload()
    except (AttributeError, NotImplementedError) as error:
        kind = adapted.peft_config["default"].peft_type
        raise ValueError(
            f"model.name={name} is an adapter of the kind {getattr(kind, 'value', kind)}, which cannot be merged into its "
            "model. Train it on as it is: without model/peft and model.merge_adapter."
        ) from error
    whole.requires_grad_(True)  # peft had frozen them
    _untie(whole)
    return whole


def fit_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """An adapter may have brought new tokens along: rows for them, as peft's own loader (`AutoPeftModel`) makes them."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))


def is_adapted(model: Any) -> bool:
    """Whether it is a `peft.PeftModel`."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def for_sampling(model: Any) -> Any:
    """The model without the detour through its adapter, where it can be merged."""
    can = is_adapted(model) and hasattr(model, "merge_and_unload") and not is_quantized(model)
    return merged(model) if can else model


def add_reference(model: Any) -> None:
    """A frozen copy of the adapter that is active, under the name `REFERENCE`; random states stay as they are."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own = model.active_adapter
    values = {name: value.clone() for name, value in get_peft_model_state_dict(model, adapter_name=own).items()}
    with torch.random.fork_rng(devices=[]):
        model.add_adapter(REFERENCE, copy.deepcopy(model.peft_config[own]))
    set_peft_model_state_dict(model, values, adapter_name=REFERENCE)
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


@contextmanager
def active_adapters(model: Any, name: str) -> Iterator[None]:
    """The adapter `name` in place of those that are active. peft's own `set_adapter` forgets which weights were trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers = [module for module in model.modules() if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
    before = [layer._active_adapter for layer in layers]
    for layer in layers:
        has_own = any(name in getattr(layer, attribute, ()) for attribute in layer.adapter_layer_names)
        layer._active_adapter = [name] if has_own else []
    try:
        yield
    finally:
        for layer, names in zip(layers, before, strict=True):
            layer._active_adapter = names


@contextmanager
def without_adapter(model: Any, name: str) -> Iterator[None]:
    """Saving leaves this adapter out: peft would write every adapter it knows. Blocks may stand in each other."""
    before = vars(model).get("save_pretrained")
    known = before.keywords["selected_adapters"] if isinstance(before, partial) else list(model.peft_config)
    kept = [each for each in known if each != name]
    model.save_pretrained = partial(type(model).save_pretrained, model, selected_adapters=kept)
    try:
        yield
    finally:
        if before is None:
            del model.save_pretrained
        else:
            model.save_pretrained = before


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit of a hub model that has just been loaded: an adapter is pinned to it, since branches move on. None for a
    folder, `revision` where the cache does not say."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return None
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else revision


def _untie(model: PreTrainedModel) -> None:
    """An adapter that trained one of two tied weights leaves them different: a config that ties them would be untrue."""
    text: Mapping | Any = model.config.get_text_config()
    if not getattr(text, "tie_word_embeddings", False) or model.get_output_embeddings() is None:
        return
    if not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        text.tie_word_embeddings = model.config.tie_word_embeddings = False
