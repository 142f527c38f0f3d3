"""What the seam holds while TRL is at work.

TRL calls back into the trainer from within its own methods and hands nothing through. So `CreditGRPOTrainer` keeps one small
object for the time of such a call, a `Scoring` or a `Visit`, and drops it on the way out; everything else gets it as an
argument. Between two calls nothing is kept but what rides in TRL's batch dict, under the keys below: dim 0 is the row, so TRL
shuffles and splits it along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

ADVANTAGES_BT = "credit_advantages_BT"
ADVANTAGES_B = "credit_advantages_B"
WEIGHTS_BT = "credit_weights_BT"
REWARDS_B = "credit_rewards_B"
REWARDS_BK = "credit_rewards_BK"
SPAN_REWARDS_BT = "credit_span_rewards_BT"
GROUP_B = "credit_group_B"
ROW_B = "credit_row_B"  # place in the generation batch of all ranks, in prompt order
VALUES_BT = "credit_values_BT"
AUXILIARY_BT = "credit_auxiliary_BT"
KL_REWARDS_BT = "credit_kl_rewards_BT"
SIGNAL = "credit_signal_"  # and the name of a signal that a provider made


class Pass(NamedTuple):
    """One forward pass while a batch is scored.

    logps_BT: of the sampled tokens.
    caught: what the critic made of the hidden states, chunk by chunk of rows; empty where it catches none.
    entropies_BT, sum_sq_BT: of the same tokens, where somebody asked for them (credit/signals/statistics.py).
    """

    logps_BT: Tensor
    caught: list[Tensor]
    entropies_BT: Tensor | None = None
    sum_sq_BT: Tensor | None = None

    def has(self, statistics: frozenset[str]) -> bool:
        """Whether it yields all of "logps", "entropies", "sum_sq" that are named."""
        return all(getattr(self, f"{name}_BT") is not None for name in statistics)


@dataclass
class Scoring:
    """One batch of rollouts between sampling and its credit.

    Attributes:
        passes: every forward pass so far, in TRL's order.
        rewards_BK: what the reward functions gave to the rows of all ranks, NaN where one could not.
        span_rewards_BT: (B_local, T_local) where this rank's rows earned it, if the strategy asks.
        mask_BT: (B_local, T_local) which tokens learn, once TRL has sampled and scored.
        rows: of the data set, one for each completion of this rank, as TRL sampled for them.
        columns: the same rows as reward functions got them, with columns of this package's.
        completion_ids: what was sampled for each, tool text with it, padding without.
        wrote: of each of these tokens 1 where the policy wrote it, 0 where a tool did, before groups were exchanged;
            None: it wrote them all.
        prompts, completions: of this rank, as the reward functions get them.
        openings: what each prompt has opened of the answer (rewards/text/opened.py).
        sampler: the pass of the policy that sampled, once it is known which one that was.
        asked: statistics that a provider has asked for without having said so before.
        looked_at: whether the policy has made a pass, which had all that was asked for until then.
        seconds: what a forward pass cost that nobody but a provider or a critic needed.
        extra_tokens: tokens that the policy of this rank has written for providers, or for groups of a refill.
        settled: what TRL is to score once more after a refill (trainers/refill/seam.py); None: it has not been scored.
        read_tokens: tokens of the sequences that were read on this rank for the log-probs of answers.
    """

    passes: list[Pass] = field(default_factory=list)
    rewards_BK: Tensor | None = None
    span_rewards_BT: Tensor | None = None
    mask_BT: Tensor | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    completion_ids: list[list[int]] = field(default_factory=list)
    wrote: list[list[int]] | None = None
    prompts: list[Any] = field(default_factory=list)
    completions: list[Any] = field(default_factory=list)
    openings: list[str] = field(default_factory=list)
    sampler: Pass | None = None
    asked: frozenset[str] = frozenset()
    looked_at: bool = False
    seconds: float = 0.0
    extra_tokens: int = 0
    settled: Any = None
    read_tokens: int = 0


@dataclass
class Visit:
    """One micro-batch in TRL's loss: what a `credit_observers` function is called with.

    Attributes:
        inputs: TRL's batch dict, a copy for this visit: TRL's loss reads what is written here, and no later visit to the same rows.
            Beside TRL's own keys it holds this package's, see the top of trainers/seam/visit.py.
        mask_BT: bool, tokens that are learned from.
        signals: of this micro-batch, by name (credit/batch.py), as members of the strategy see them.
        live: what TRL's forward pass gave, with its graph: log-probs of the sampled tokens, and entropies, where it made them.
        advantages_BT: the credit, 0 at masked tokens.
        weights_BT: w, 0 at masked tokens; all of a generation batch count together.
        auxiliary: the auxiliary term of this micro-batch, with its graph; None: there is none.
        loss: what is added to TRL's loss; None: nothing.
    """

    inputs: dict[str, Any]
    mask_BT: Tensor
    signals: dict[str, Any] = field(default_factory=dict)
    live: tuple[Tensor | None, ...] = ()
    advantages_BT: Tensor | None = None
    weights_BT: Tensor | None = None
    auxiliary: Tensor | None = None
    loss: Tensor | None = None

    @classmethod
    def to(cls, inputs: dict[str, Any]) -> Visit:
        return cls(dict(inputs), learning_mask(inputs))


def learning_mask(inputs: dict[str, Any]) -> Tensor:
    """(B, T) bool: tokens the policy wrote, tool text and truncated rows (if TRL masks them) left out."""
    mask_BT = inputs["completion_mask"]
    return (mask_BT * inputs["tool_mask"] if "tool_mask" in inputs else mask_BT).bool()
