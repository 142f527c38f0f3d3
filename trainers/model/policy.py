"""What a model builder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Policy:
    """A model to align, its tokenizer (with a pad token, left-padding) and, if asked for, an adapter configuration.

    The adapter is not applied yet: TRL does that (`GRPOTrainer(peft_config=...)`), so that the reference policy of a
    KL term is the model with its adapter switched off and no second copy.

    Args:
        model: or a `peft.PeftModel` (then without `peft_config`), whose adapter is trained on.
        unsaved: the weights are not those that stand under `model.name_or_path`. Adapters and references are found by
            that name, so a run then keeps a copy of the model where it needs one (trainers/run/start.py).
        revision: of `model.name_or_path` on the hub, from which a reference is loaded; None: the default branch.
        loaded_from: folders that `overwrite=true` must not delete.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    peft_config: PeftConfig | None = None
    unsaved: bool = False
    loaded_from: tuple[str, ...] = ()
    revision: str | None = None


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the whole model; ZeRO-3 leaves a rank with empty tensors that know their true number, and bitsandbytes
    keeps two of 4 bits in a byte."""
    return sum(_count(parameter) for parameter in model.parameters())


def _count(parameter: Any) -> int:
    packed = 2 * parameter.element_size() if type(parameter).__name__ == "Params4bit" else 1
    return getattr(parameter, "ds_numel", parameter.numel() * packed)


def parameters_of(model: PreTrainedModel) -> dict[str, int]:
    """`parameters`, all of them, and `trainable_parameters`."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return {
        "parameters": count_parameters(model),
        "trainable_parameters": sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trained),
    }


def parameters_in_words(model: PreTrainedModel) -> str:
    """`494.03 M parameters, 4.40 M of them trained (0.89 %)`"""
    whole, trained = parameters_of(model).values()
    part = "all trained" if trained == whole else f"{trained / 1e6:.2f} M of them trained ({trained / whole:.2%})"
    return f"{whole / 1e6:.2f} M parameters, {part.replace('%', ' %')}"
