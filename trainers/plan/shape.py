"""What a model is made of, counted on modules without weights (torch's "meta" device): the configuration is read, no tensor.

P numbers (parameters); a layer is one block of the decoder.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from trainers.model.adapters import base_of
from trainers.model.pretrained import DTYPES, adapter_config


@dataclass(frozen=True)
class ModelSizes:
    """Args:
    parameters: of the whole model, tied ones once; trained: those with a gradient.
    weight_bytes, trained_bytes: what these take, in the dtypes that they are trained in.
    matrices: trained numbers that mixed precision copies: weights of linear layers.
    layer: numbers of the largest layer. outside: numbers outside of layers.
    layers, hidden, intermediate, heads, kv_heads, head_size, vocabulary: as transformers calls them.
    positions: longest text in tokens; None: no limit is said.
    hidden_bytes: of a number between two layers: that of the embeddings, which mixed precision adds to.
    """

    parameters: int
    trained: int
    weight_bytes: int
    trained_bytes: int
    matrices: int
    layer: int
    outside: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int | None
    hidden_bytes: int
    is_adapted: bool
    """An adapter is trained; the weights below it stay."""


# Of a weight in 4 bits: half a byte, and one of a scale for 64 of them.
PACKED = 0.5 + 1 / 64


def shape_of(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    adapter: Any = None,
    trust_remote_code: bool = False,
    in_4_bits: bool = False,
) -> ModelSizes:
    """The shape of a causal language model with these weights and, if given, a new `peft.PeftConfig` on it. in_4_bits: linear
    layers of the decoder's blocks are packed."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
        linear = [weight for block in _layers(model) for weight in _linear_weights(block)]
        packed = round(_count(linear) * (dtype.itemsize - PACKED))
        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, copy.deepcopy(adapter))  # it writes into what it is given
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    blocks = _layers(model)
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", 1)
    largest = max((_count(block.parameters()) for block in blocks), default=0)
    return ModelSizes(
        parameters=_count(parameters),
        trained=_count(trained),
        weight_bytes=_size(parameters) - (packed if in_4_bits else 0),
        trained_bytes=_size(trained),
        matrices=_count({id(w): w for w in _linear_weights(model) if w.requires_grad}.values()),
        layer=largest,
        outside=_count(parameters) - sum(_count(block.parameters()) for block in blocks),
        layers=len(blocks),
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=text.vocab_size,
        positions=getattr(text, "max_position_embeddings", None),
        hidden_bytes=dtype.itemsize,
        is_adapted=adapter is not None,
    )


def shape_of_hf(node: Mapping[str, Any], trains_all_in: torch.dtype = torch.float32) -> ModelSizes:
    """The shape of `model=hf`; node: its settings.

    Raises:
        OSError, ValueError: there is no configuration to be read.
    """
    name = str(node["name"])
    folder = Path(name).expanduser()
    base = base_of(folder) if folder.is_dir() else None
    trust = bool(node.get("trust_remote_code"))
    origin = base.name if base else str(folder if folder.is_dir() else name)
    local = Path(origin).is_dir()
    config = AutoConfig.from_pretrained(
        origin, revision=node.get("revision"), trust_remote_code=trust, local_files_only=local
    )
    adapter = adapter_config(node.get("peft"))
    if base and adapter is None and not node.get("merge_adapter"):
        from peft import PeftConfig

        adapter = PeftConfig.from_pretrained(str(folder))
        adapter.inference_mode = False
    saved = getattr(config, "dtype", None) or torch.float32
    asked = node.get("dtype")
    dtype = (
        saved if asked == "auto" or (asked is None and adapter is not None) else DTYPES.get(asked or "", trains_all_in)
    )
    return shape_of(config, dtype, adapter, trust, bool(node.get("load_in_4bit")))


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of the decoder: the longest list of modules of one kind."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
    return list(max(lists, key=lambda one: _count(one.parameters()), default=[]))


def _linear_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    from transformers.pytorch_utils import Conv1D

    return [module.weight for module in model.modules() if isinstance(module, (torch.nn.Linear, Conv1D))]


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _size(parameters: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
