"""A base in 4 bits under an adapter (QLoRA), by the package bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

PACKAGE = "bitsandbytes"


def four_bit(name: str, config: Any, dtype: Any, *, trains_adapter: bool, merges: bool) -> Any:
    """The `transformers.BitsAndBytesConfig` of `model.load_in_4bit`: NF4 with double quantisation; computes in the type that
    the weights were saved in, or the one asked for.

    Args:
        config: of the model. dtype: "auto" or a torch type.
        trains_adapter: an adapter is what is trained. merges: one is added to the weights first.

    Raises:
        ValueError: no adapter, one that would be merged into 4 bits, weights that are quantised already, or the package is missing.
    """
    if merges:
        raise ValueError(
            f"model.load_in_4bit=true: the adapter of model.name={name} would be merged into weights of 4 bits, which rounds it "
            "away. Train it on as it is (no model/peft, no model.merge_adapter), or merge it into the whole model first."
        )
    if not trains_adapter:
        raise ValueError(
            "model.load_in_4bit=true: weights of 4 bits stay as they are; add an adapter, model/peft=lora."
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"model.load_in_4bit=true: model.name={name} is quantised as it was saved; leave the setting out."
        )
    if importlib.util.find_spec(PACKAGE) is None:
        raise ValueError("model.load_in_4bit=true needs the package bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    saved = getattr(config, "dtype", None)
    computes = dtype if isinstance(dtype, torch.dtype) else saved if isinstance(saved, torch.dtype) else torch.bfloat16
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computes,
    )


def refuse_frozen(name: str, config: Any, trains_adapter: bool) -> None:
    """Raises ValueError for a model that was saved quantised and has nothing that could be trained."""
    if getattr(config, "quantization_config", None) is not None and not trains_adapter:
        raise ValueError(
            f"model.name={name} is quantised, so its weights cannot be trained; add an adapter, model/peft=lora."
        )


def is_quantized(model: Any) -> bool:
    """Whether the weights are of 4 or 8 bits, so that nothing is to be merged into them."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))
