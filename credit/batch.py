"""What a strategy sees (`Rollout`), what it returns (`Credit`), and the names of every signal.

Shape suffixes that mean the same in every file:
    B  completions (rows; at scoring time: of the whole generation batch, over all ranks)
    T  completion tokens, right-padded
    K  reward functions
    G  completions per prompt (group size)
    P  prompts
    V  vocabulary
    D  features: width of a hidden state, random features
    1  a dimension of size one
Another letter holds for a file or a package, whose head explains it ("Shapes: ..."; tests/test_names.py), and so does one of
these in a sense of its own.
Log-probabilities carry the name of who computed them: `policy_logps_BT` (the live policy, with gradient outside of
strategies, detached inside), `sampler_logps_BT` (the policy that sampled, one value per token).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Signal:
    """One thing a strategy member may ask for by naming a parameter after it."""

    shape: str
    stage: str  # "scoring": whole batch, all ranks | "loss": live forward, this rank's rows | "both"
    meaning: str


SIGNALS: dict[str, Signal] = {
    "rewards_B": Signal(
        "(B,)",
        "both",
        "weighted sum over reward functions; NaN where every function abstained; plus the row's kl_rewards_BT if KL is reward and "
        "no member takes it by token",
    ),
    "rewards_BK": Signal("(B, K)", "scoring", "raw value of each reward function; NaN where it abstained"),
    "reward_weights_K": Signal("(K,)", "scoring", "weight of each reward function (TRL's `reward_weights`)"),
    "group_B": Signal("(B,) int64", "scoring", "prompt group of each row; rows of one group need not be adjacent"),
    "advantages_B": Signal("(B,)", "both", "what the baseline made of the rewards; 0 for unscorable rows"),
    "mask_BT": Signal("(B, T) bool", "both", "tokens the policy wrote and that may learn (no padding, no tool text)"),
    "lengths_B": Signal("(B,) int64", "both", "mask_BT.sum(1)"),
    "token_ids_BT": Signal("(B, T) int64", "both", "completion token ids; arbitrary where the mask is false"),
    "max_length": Signal("int", "both", "L_max, the longest completion the run allows (`max_completion_length`)"),
    "span_rewards_BT": Signal("(B, T)", "both", "reward earned at each token; rows sum to the span rewards' total"),
    "token_rewards_BT": Signal(
        "(B, T)",
        "both",
        "the outcome by token: advantages_B at the last learning token, plus kl_rewards_BT if KL is reward",
    ),
    "kl_rewards_BT": Signal("(B, T)", "both", "-beta (sampler_logps - ref_logps), collected under kl_in_reward"),
    "scoring_values_BT": Signal(
        "(B, T)", "scoring", "critic's V(s_t) before any update; costs a forward pass unless TRL makes its own"
    ),
    "policy_logps_BT": Signal("(B, T)", "loss", "log-prob of each token under the live policy, detached"),
    "sampler_logps_BT": Signal("(B, T)", "loss", "log-prob of each token under the policy that sampled it"),
    "entropies_BT": Signal("(B, T)", "loss", "entropy (nats) of the live policy before each token, detached"),
    "values_BT": Signal("(B, T)", "loss", "critic's V(s_t) before each token, detached"),
}


@dataclass(frozen=True)
class Rollout:
    """One generation batch, whole: every row of every rank, in any order.

    Args:
        rewards_B: float, NaN where no reward function could score the row ("unscorable").
        group_B: int64 prompt ids. Rows of a group may stand anywhere.
        mask_BT: bool, True on tokens that learn. A row may be all False (truncated and masked out).
        max_length: L_max, tokens. A constant of the run, never of a batch.
        token_ids_BT, rewards_BK, reward_weights_K, span_rewards_BT, kl_rewards_BT, scoring_values_BT: see `SIGNALS`; None
            when not collected.

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

    def __post_init__(self):
        rows = self.rewards_B.shape[0] if self.rewards_B.dim() == 1 else None
        if rows is None or not self.rewards_B.is_floating_point():
            raise ValueError(f"rewards_B must be a float vector, got {_describe(self.rewards_B)}.")
        if self.mask_BT.dim() != 2 or self.mask_BT.dtype != torch.bool:
            raise ValueError(f"mask_BT must be a bool matrix, got {_describe(self.mask_BT)}; use `mask.bool()`.")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, Tensor) or entry.name == "reward_weights_K":
                continue
            if value.shape[0] != rows:
                raise ValueError(f"{entry.name} has {value.shape[0]} rows, rewards_B has {rows}.")
            if entry.name.endswith("_BT") and value.shape != self.mask_BT.shape:
                raise ValueError(f"{entry.name} is {tuple(value.shape)}, mask_BT is {tuple(self.mask_BT.shape)}.")
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1 token, got {self.max_length}.")

    @property
    def lengths_B(self) -> Tensor:
        """(B,) int64: learning tokens per row."""
        return self.mask_BT.sum(dim=1)

    def signals(self) -> dict[str, Tensor | int]:
        """Everything this rollout can hand to a member at scoring time, by signal name; absent ones left out."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["lengths_B"] = self.lengths_B
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Credit:
    """What a strategy makes of a `Rollout` at scoring time.

    `advantages_BT` is None when the spread needs the live forward pass; `Strategy.live_advantages` then makes it in
    the loss. Advantages and weights stay two tensors until the trainer hands TRL their product. Both are 0 where the mask
    is False.
    """

    advantages_B: Tensor
    weights_BT: Tensor
    advantages_BT: Tensor | None = None


def _describe(value) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
