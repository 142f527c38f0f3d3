"""What a strategy sees (`Rollout`), and what it returns (`Credit`). The signals by name: credit/signals/.

Shape suffixes that mean the same in every file:
    B  completions (rows; at scoring time: of the whole generation batch, over all ranks)
    T  completion tokens, right-padded
    K  reward functions
    G  completions per prompt (group size)
    P  prompts
    V  vocabulary
    D  features: width of a hidden state, random features
    C  any number of values of a row, as a provider of signals makes them: cut points, references
    1  a dimension of size one
Another letter holds for a file or a package, whose head explains it ("Shapes: ..."; tests/test_names.py), and so does one of
these in a sense of its own.
Log-probabilities carry the name of who computed them: `policy_logps_BT` (the live policy, with gradient outside of
strategies, detached inside), `sampler_logps_BT` (the policy that sampled, one value per token).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """One generation batch, whole: every row of every rank, in any order.

    Args:
        rewards_B: float, NaN where no reward function could score the row ("unscorable").
        group_B: int64 prompt ids. Rows of a group may stand anywhere.
        mask_BT: bool, True on tokens that learn. A row may be all False (truncated and masked out).
        max_length: L_max, tokens. A constant of the run, never of a batch.
        token_ids_BT, rewards_BK, reward_weights_K, span_rewards_BT, kl_rewards_BT, scoring_values_BT: see
            `credit.signals.SIGNALS`; None when not collected.
        provided: what other providers of signals made, by name (credit/signals/).

    Raises:
        ValueError: shapes or dtypes disagree, or max_length < 1.
    """

    rewards_B: Tensor
    group_B: Tensor
    mask_BT: Tensor
    max_length: int
    token_ids_BT: Tensor | None = None
    rewards_BK: Tensor | None = None
    reward_weights_K: Tensor | None = None
    span_rewards_BT: Tensor | None = None
    kl_rewards_BT: Tensor | None = None
    scoring_values_BT: Tensor | None = None
    provided: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        rows = self.rewards_B.shape[0] if self.rewards_B.dim() == 1 else None
        if rows is None or not self.rewards_B.is_floating_point():
            raise ValueError(f"rewards_B must be a float vector, got {_describe(self.rewards_B)}.")
        if self.mask_BT.dim() != 2 or self.mask_BT.dtype != torch.bool:
            raise ValueError(f"mask_BT must be a bool matrix, got {_describe(self.mask_BT)}; use `mask.bool()`.")
        for name, value in (vars(self) | dict(self.provided)).items():
            if not isinstance(value, Tensor) or name == "reward_weights_K":
                continue
            if value.shape[0] != rows:
                raise ValueError(f"{name} has {value.shape[0]} rows, rewards_B has {rows}.")
            if name.endswith("_BT") and value.shape != self.mask_BT.shape:
                raise ValueError(f"{name} is {tuple(value.shape)}, mask_BT is {tuple(self.mask_BT.shape)}.")
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1 token, got {self.max_length}.")

    @property
    def lengths_B(self) -> Tensor:
        """(B,) int64: learning tokens per row."""
        return self.mask_BT.sum(dim=1)

    def signals(self) -> dict[str, Tensor | int]:
        """Everything this rollout can hand to a member at scoring time, by signal name; absent ones left out."""
        values = {name: value for name, value in vars(self).items() if name != "provided"}
        values |= {"lengths_B": self.lengths_B, **self.provided}
        return {name: value for name, value in values.items() if value is not None}

    def with_provided(self, made: Mapping[str, Tensor]) -> Rollout:
        """This rollout and what providers of signals made of its rows, by name."""
        own = {name: value for name, value in made.items() if name in vars(self)}
        rest = {name: value for name, value in made.items() if name not in own}
        return replace(self, **own, provided={**self.provided, **rest})


@dataclass(frozen=True)
class Credit:
    """What a strategy makes of a `Rollout` at scoring time.

    `advantages_BT` is None when the spread needs the live forward pass; `Strategy.live_advantages` then makes it in
    the loss. Advantages and weights stay two tensors until the trainer hands TRL their product. Both are 0 where the mask
    is False. Where a `live_weight` multiplies the weights in the loss, `expected_BT` is their product under the policy that
    sampled, NaN where its statistics were not collected; else None. `auxiliary_BT`: what each token of an auxiliary term counts.
    """

    advantages_B: Tensor
    weights_BT: Tensor
    advantages_BT: Tensor | None = None
    expected_BT: Tensor | None = None
    auxiliary_BT: Tensor | None = None


def _describe(value) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
