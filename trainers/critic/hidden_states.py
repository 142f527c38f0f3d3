"""Where a critic's hidden states come from: caught in the policy's own forward pass, or made by a pass of the critic's own.

The state before a completion token has read everything up to it; the one before the first token has read the prompt.

Shapes: S tokens of prompt and completion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

# What is made of the states (b, T, D) of some rows of a batch as soon as they are caught.
Reduce = Callable[[Tensor, slice], Tensor]


class Trunk:
    """What a critic reads V off.

    Attributes:
        width: of the hidden states, D.
        own_pass: whether they come from a forward pass of the critic's own (`states`), or are caught in the policy's
            (`catching`).
    """

    width: int
    own_pass = False

    def parameters(self) -> dict[str, nn.Parameter]:
        """What the critic trains of it, by name."""
        return {}

    def catching(self, width: int, reduce: Reduce) -> AbstractContextManager[list[Tensor]]:
        """Around a forward pass of the policy: a list of `reduce(states (b, width, D), rows)`, one for each call inside."""
        return nullcontext([])

    def states(self, inputs: dict) -> Tensor:
        """(B, T, D) states of TRL's batch dict, by a forward pass of the critic's own."""
        raise NotImplementedError(f"{type(self).__name__} makes no pass of its own")

    def active(self) -> AbstractContextManager[None]:
        """Around passes forward and backward of the critic's own."""
        return nullcontext()

    def left_out(self) -> AbstractContextManager[None]:
        """Around saving the policy, whose files hold nothing of the critic."""
        return nullcontext()


class PolicyTrunk(Trunk):
    """The policy's last hidden state, caught by a forward hook on its decoder during TRL's own forward pass."""

    def __init__(self, policy: nn.Module):
        decoder = decoder_of(policy)
        self.width = width_of(policy)
        self._keep_states: Callable[[Tensor], None] | None = None
        decoder.register_forward_hook(self._keep)

    @contextmanager
    def catching(self, width: int, reduce: Reduce) -> Iterator[list[Tensor]]:
        """As of `Trunk`; TRL may cut a batch into chunks."""
        caught: list[Tensor] = []
        rows = 0

        def keep(hidden_BSD: Tensor) -> None:
            nonlocal rows
            states = hidden_BSD[:, -width - 1 : -1]
            caught.append(reduce(states, slice(rows, rows + len(states))))
            rows += len(states)

        self._keep_states = keep
        try:
            yield caught
        finally:
            self._keep_states = None

    def _keep(self, module, arguments, output) -> None:
        if self._keep_states is not None:
            self._keep_states(output[0] if isinstance(output, tuple) else output.last_hidden_state)


def decoder_of(policy: nn.Module) -> nn.Module:
    """The module whose output the LM head reads: what TRL runs before it."""
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    decoder = getattr(model, "base_model", model)
    if decoder is model:
        raise ValueError(f"{type(model).__name__} does not say where its decoder ends and its LM head begins.")
    return decoder


def width_of(model: nn.Module) -> int:
    """D, the size of the last hidden state."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return config.hidden_size


def states_of(decoder: nn.Module, inputs: dict) -> Tensor:
    """(B, T, D) states before each completion token of TRL's batch dict, by a pass of `decoder`.

    Raises:
        ValueError: the rows have images.
    """
    if any("pixel" in key for key in inputs):
        raise ValueError("a critic with a forward pass of its own reads text only; use credit/critic=head with images.")
    tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    output = decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
    return output.last_hidden_state[:, -inputs["completion_ids"].shape[1] - 1 : -1]
