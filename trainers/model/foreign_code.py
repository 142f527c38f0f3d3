"""A model folder is data that people send each other: what would run code that it names is refused here, where transformers
and peft would not do so in every version. They themselves keep to tensors in pickled weights (`weights_only`), to
sandboxed chat templates, and to their own classes unless `model.trust_remote_code=true`."""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

UNSAFE_WEIGHTS = UnpicklingError  # torch.load met more than tensors


def check_config(name: str, config: Any, attn_implementation: str | None, trust_remote_code: bool) -> None:
    """Raises ValueError if the model's own config.json asks for a kernel from the hub (compiled code) that the user did
    not ask for."""
    asked = getattr(config, "_attn_implementation", None)
    if isinstance(asked, str) and "/" in asked and asked != attn_implementation and not trust_remote_code:
        raise ValueError(
            f"the config.json of model.name={name} asks for the attention kernel {asked}, code from the hub. If you trust "
            f"it: model.attn_implementation={asked}; if not: model.attn_implementation=sdpa"
        )


def check_adapter(name: str, folder: Path) -> None:
    """Raises ValueError if an adapter names a module of Python that peft would import."""
    facts = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if facts.get("megatron_config") and str(facts.get("megatron_core")) != "megatron.core":
        raise ValueError(
            f"the adapter_config.json of model.name={name} names the module {facts.get('megatron_core')!r} to be imported as "
            "megatron_core; only megatron.core is taken."
        )


def unsafe(name: str) -> str:
    """What to say of weights that are not only weights."""
    return (
        f"the weights of model.name={name} are a pickle that holds more than tensors, which could run anything; they are not "
        "loaded. Take a folder with safetensors."
    )
