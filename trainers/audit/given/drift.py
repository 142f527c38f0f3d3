"""Did the audited policy write these completions? What a file of completions cannot prove, and what gives it away.

Under the policy that draws them, tokens are on average as surprising as its entropy says: sum_t (-log p(x_t | before) - H_t) is a
martingale, of mean zero however a text ends. So the mean excess of surprise is 0 for completions of this policy at this temperature,
above 0 for others' and for texts that were tokenised in another way, below 0 for those of a lower temperature or of a sampler that
leaves unlikely tokens out. Where the log-probs of the sampler were recorded they are compared token by token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainers.audit.given.tokens import TakenTokens

SURE, MUCH = 4.0, 0.01  # standard errors, and nats a token, from which on the excess speaks of another policy
FAR = 0.05  # mean difference of log-probs that another engine's rounding does not make


def drift_in_batch(
    drawn: Sequence[TakenTokens], mask_BT: Tensor, logps_BT: Tensor, entropies_BT: Tensor | None
) -> dict[str, Any]:
    """Sums over the tokens that learn, of this rank: {"tokens", "excess", "compared", "difference", "log_ratios"}."""
    mask_BT, logps_BT = mask_BT.cpu(), logps_BT.double().cpu()
    found: dict[str, Any] = {"tokens": int(mask_BT.sum()), "excess": None}
    if entropies_BT is not None:
        surprise_BT = -logps_BT - entropies_BT.double().cpu()
        found["excess"] = float(surprise_BT.masked_fill(~mask_BT, 0.0).sum())
    sampler_BT = torch.full_like(logps_BT, torch.nan)
    for row, one in enumerate(drawn):
        if one.logps is not None:
            sampler_BT[row, : len(one.logps)] = torch.tensor(one.logps, dtype=torch.float64)
    known_BT = mask_BT & ~sampler_BT.isnan()
    ratio_BT = (logps_BT - sampler_BT).masked_fill(~known_BT, 0.0)
    found |= {"compared": int(known_BT.sum()), "difference": float(ratio_BT.abs().sum())}
    whole_B = known_BT.any(dim=1)
    return found | {"log_ratios": ratio_BT.sum(dim=1)[whole_B].tolist()}


def together(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all ranks."""
    known = all(one["excess"] is not None for one in ranks)
    return {
        "tokens": sum(one["tokens"] for one in ranks),
        "excess": sum(one["excess"] for one in ranks) if known else None,
        "compared": sum(one["compared"] for one in ranks),
        "difference": sum(one["difference"] for one in ranks),
        "log_ratios": [ratio for one in ranks for ratio in one["log_ratios"]],
    }


def is_of_another(excess: float, error: float) -> bool:
    """Whether this excess of surprise, with its standard error, speaks of another policy."""
    return abs(excess) > max(MUCH, SURE * error)


def drift_of(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all batches, what was found in each: numbers by name; None where there is none.

    excess: nats a token; excess_error: its standard error, over batches. logp_difference: mean |difference| to the recorded log-probs.
    worth: completions of this policy that weighing the compared ones by their ratios would be worth, as a share of them.
    other_policy: whether one of these says that another policy wrote them.
    """
    tokens = sum(one["tokens"] for one in batches)
    excess = error = difference = worth = None
    if tokens and all(one["excess"] is not None for one in batches):
        excess = sum(one["excess"] for one in batches) / tokens
        left = [one["excess"] - excess * one["tokens"] for one in batches]
        count = len(batches)
        error = math.sqrt(count / (count - 1) * sum(value**2 for value in left)) / tokens if count > 1 else None
    compared, ratios = sum(one["compared"] for one in batches), [r for one in batches for r in one["log_ratios"]]
    if compared:
        difference = sum(one["difference"] for one in batches) / compared
        largest = max(ratios)
        weights = [math.exp(ratio - largest) for ratio in ratios]
        worth = sum(weights) ** 2 / sum(weight**2 for weight in weights) / len(weights)
    is_off = excess is not None and error is not None and is_of_another(excess, error)
    return {
        "excess": excess,
        "excess_error": error,
        "logp_difference": difference,
        "worth": worth,
        "other_policy": is_off or (difference is not None and difference > FAR),
    }
