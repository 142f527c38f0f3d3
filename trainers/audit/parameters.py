"""Which parameters an audit looks at: all that are trained, those of an adapter, or those whose names match."""

from __future__ import annotations

import re

from torch import nn

from trainers.model.adapters import is_adapted
from userio.read import nearest

ALL, ADAPTER = "all", "adapter"


def chosen_parameters(policy: nn.Module, which: str = ALL) -> dict[str, nn.Parameter]:
    """The trained parameters that `which` names: "all", "adapter", or a regular expression that is found in their names.

    Raises:
        ValueError: there is no adapter, nothing matches, or it is no regular expression.
    """
    trained = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    if which == ALL:
        return trained
    if which == ADAPTER:
        if not is_adapted(policy):
            raise ValueError(
                "parameters=adapter: this policy has no adapter. Add model/peft=lora, or leave parameters=all."
            )
        return {name: parameter for name, parameter in trained.items() if "lora_" in name or "modules_to_save" in name}
    check_pattern(which)
    found = {name: parameter for name, parameter in trained.items() if re.search(which, name)}
    if not found:
        some = ", ".join(list(trained)[:3])
        raise ValueError(
            f"parameters={which} matches none of the {len(trained)} tensors that are trained ({some}, ...).{nearest(which, trained)}"
        )
    return found


def check_pattern(which: str) -> None:
    """Raises ValueError: it is no regular expression."""
    try:
        re.compile(which)
    except re.error as error:
        raise ValueError(
            f"parameters={which} is no regular expression ({error}). Write all, adapter, or one."
        ) from None
