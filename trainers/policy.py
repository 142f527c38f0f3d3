"""What a model builder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Policy:
    """A model to align, its tokenizer (with a pad token, left-padding) and, if asked for, an adapter configuration.

    The adapter is not applied yet: TRL does that (`GRPOTrainer(peft_config=...)`), so that the reference policy of a
    KL term is the model with its adapter switched off and no second copy.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    peft_config: PeftConfig | None = None


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the whole model; ZeRO-3 leaves a rank with empty tensors that know their true number."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
